#!/usr/bin/env bash
# Run a command over the segments of a data folder as an array of jobs and join what the jobs wrote.
#
# Usage: utils/segment_jobs.sh [options] <data-dir> <output-dir> -- <command> [<argument> ...]
#
# The command is called per job with --scp <part of vid.scp> --output-dir <output-dir>/jobs<nj>/<job> added, keeps a
# journal there (vidperson/io/job_store.py), and goes on behind it when it is started again, with the parts that it was
# started with. The outputs do not depend on the number of jobs. A set that is done is left alone; one that was made
# with other settings or inputs is refused, unless --force true makes it anew. That tries the new settings on no
# segment first: what is there goes only when they are found valid.
#
# Example:
#   utils/segment_jobs.sh --nj 4 --archives "faces.ark crops.tar" data/demo_dev_test exp/face_det/x/demo_dev_test -- \
#     python steps_face/detect_faces.py --model exp/face_models/x --fps 1
set -euo pipefail
trap 'exit 130' INT   # bash goes on after Ctrl-C where the command that it waits for ends as if nothing had happened

cmd=utils/run.py   # launcher
nj=1               # number of jobs; never more than segments
archives=          # names of the archives that a job writes
inputs=()          # files whose content decides the outcome, beside vid.scp: --input FILE, again for each
media_inputs=false # true: so do the files that vid.scp names, told apart by size and time of change
speed_args=        # arguments of the command that change its speed and not its outcome
force=false        # true: remove what is there and start anew

while [[ ${1:-} == --* ]]; do
  name=${1#--}
  name=${name//-/_}
  case $name in
    input) inputs+=("${2-}") ;;
    cmd | nj | archives | media_inputs | speed_args | force) printf -v "$name" %s "${2-}" ;;
    *) echo "$0: unknown option $1; valid: --cmd --nj --archives --input --media-inputs --speed-args --force" >&2; exit 1 ;;
  esac
  [ $# -ge 2 ] || { echo "$0: option $1 lacks its value" >&2; exit 1; }
  shift 2
done
if [ $# -lt 4 ] || [ "$3" != -- ]; then
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 1
fi
data=$1
out=$2
shift 3

. ./utils/need_files.sh
need_files "$data/vid.scp" "${inputs[@]}"
num_segments=$(grep -c '' "$data/vid.scp")
((nj <= num_segments)) || nj=$num_segments
settings=$(
  printf '%q ' "$@"
  echo
  sha256sum "$data/vid.scp" "${inputs[@]}"
)

# Path, size and time of change of each file that vid.scp names, if they are inputs; one that is missing has no line.
media() {
  [ "$media_inputs" = true ] || return 0
  cut -d' ' -f2- "$data/vid.scp" | tr '\n' '\0' | xargs -0 stat -L -c '%n %s %.9Y' -- 2> /dev/null || true
}

# What differs between the run that wrote the output folder and this one, a dozen lines at most.
changes() {
  {
    diff -N "$out/settings" - <<< "$settings" || true
    diff -N "$out/media" <(media) || true
  } | sed -n '1,12p; 13s/.*/.../p'
}

leave_if_done() {
  local archive file files=("$out/status")
  if [ "$force" = false ] && [ -f "$out/.done" ] && [ -z "$(changes)" ]; then
    for archive in $archives; do
      files+=("$out/$archive" "$out/${archive%.*}.scp")
    done
    for file in "${files[@]}"; do
      if [ ! -f "$file" ]; then
        echo "$out: it was done, but $file is gone; put it back, or --force true makes the set anew" >&2
        exit 1
      fi
    done
    rm -rf "$out"/jobs[0-9]* 2> /dev/null || true   # of a run that was killed at its last line
    echo "$out: done already: $(cat "$out/.done") (--force true makes it anew)"
    exit 0
  fi
}

leave_if_done   # without writing anything: the folder may be read-only by now
mkdir -p "$out"
exec 9> "$out/.lock"   # the jobs inherit it: those that outlive a killed stage hold it until they end
if ! flock -n 9; then
  echo "$out: another run, or a job left by a killed one, is at work on it; wait for it or end it" >&2
  exit 1
fi
leave_if_done   # another run may have done it meanwhile
if [ "$media_inputs" = true ] && [ -z "$(media)" ]; then   # all would be unreadable, and the set done
  echo "$out: none of the files in $data/vid.scp is there; is their disk mounted?" >&2
  exit 1
fi

# Whether there is work to lose: a finished set, or segments that jobs have noted. The folder may be a link.
has_work() {
  [ -f "$out/.done" ] || [ -n "$(find "$out/" -name journal.jsonl -size +0 -print -quit)" ]
}

if [ "$force" = true ] && has_work; then
  rm -rf "$out/trial"   # of one that was interrupted
  mkdir "$out/trial"
  : > "$out/trial/vid.scp"
  # shellcheck disable=SC2086  # the launcher and the arguments are lists of words
  if ! utils/split_data.sh "$data" "$nj" "$out/trial/parts" ||
    ! $cmd "$out/log/trial.log" "$@" $speed_args --scp "$out/trial/vid.scp" --output-dir "$out/trial"; then
    rm -rf "$out/trial"
    echo "$out: left as it is, since the new settings do not work" >&2
    exit 1
  fi
fi
if [ "$force" = true ] || ! has_work; then
  # log/q tells the launcher of arrays that outlive a killed run; -path would take the folder's name for a pattern
  (CDPATH='' cd -- "$out" && find . -mindepth 1 ! -name .lock ! -path ./log ! -path './log/q*' -delete)
else
  changed=$(changes)
  if [ -n "$changed" ]; then
    echo "$out was made with other settings or inputs (< then, > now):" >&2
    echo "$changed" >&2
    echo "give --force true to make it anew, or remove $out, or put back the settings and files of then" >&2
    exit 1
  fi
fi
media > "$out/media.tmp"
mv "$out/media.tmp" "$out/media"
echo "$settings" > "$out/settings.tmp"
mv "$out/settings.tmp" "$out/settings"

started=$(find "$out/" -maxdepth 1 -name 'jobs[0-9]*' -printf '%f' -quit)
if [ -z "$started" ]; then
  rm -rf "$out/parts"
  utils/split_data.sh "$data" "$nj" "$out/parts"
  mv "$out/parts" "$out/jobs$nj"
elif [ "$started" != "jobs$nj" ]; then
  nj=${started#jobs}
  echo "$out: goes on with the $nj jobs that it was started with"
fi
array=JOB   # the launcher puts the job's number wherever this stands, be it part of the set's name
while [[ "$out $* $speed_args" == *"$array"* ]]; do
  array+=_
done
# shellcheck disable=SC2086  # the launcher and the arguments are lists of words
$cmd "$array=1:$nj" "$out/log/$array.log" "$@" $speed_args \
  --scp "$out/jobs$nj/$array/vid.scp" --output-dir "$out/jobs$nj/$array"
python steps/merge_jobs.py --scp "$data/vid.scp" --jobs-dir "$out/jobs$nj" --nj "$nj" \
  --archives "$archives" --media "$out/media" --output-dir "$out"
rm -rf "$out/jobs$nj"
