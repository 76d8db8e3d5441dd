#!/usr/bin/env bash
# Run a command over the segments of a data folder as an array of jobs and join what the jobs wrote.
#
# Usage: utils/segment_jobs.sh [options] <data-dir> <output-dir> -- <command> [<argument> ...]
#
# The command is called per job with --scp <part of vid.scp> --output-dir <output-dir>/jobs<nj>/<job> added, keeps a
# journal there (vidperson/io/job_store.py), and goes on behind it when it is started again. The outputs do not depend
# on the number of jobs. A set that is done is left alone; one that was started with other settings or inputs is
# refused, unless --force true makes it anew.
#
# Example:
#   utils/segment_jobs.sh --nj 4 --archives "faces.ark crops.tar" data/demo_dev_test exp/face_det/x/demo_dev_test -- \
#     python steps_face/detect_faces.py --model exp/face_models/x --fps 1
set -euo pipefail

cmd=utils/run.py   # launcher
nj=1               # number of jobs; never more than segments
archives=          # names of the archives that a job writes
inputs=            # files whose content decides the outcome, beside vid.scp
speed_args=        # arguments of the command that change its speed and not its outcome
force=false        # true: remove what is there and start anew

while [[ ${1:-} == --* ]]; do
  name=${1#--}
  name=${name//-/_}
  case $name in
    cmd | nj | archives | inputs | speed_args | force) printf -v "$name" %s "$2" ;;
    *) echo "$0: unknown option $1; valid: --cmd --nj --archives --inputs --speed-args --force" >&2; exit 1 ;;
  esac
  shift 2
done
if [ $# -lt 4 ] || [ "$3" != -- ]; then
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 1
fi
data=$1
out=$2
shift 3

num_segments=$(wc -l < "$data/vid.scp")
((nj <= num_segments)) || nj=$num_segments
settings=$(
  printf '%q ' "$@"
  echo
  # shellcheck disable=SC2086  # a list of files
  sha256sum "$data/vid.scp" $inputs
)

if [ "$force" = true ]; then
  rm -rf "$out"
elif [ -f "$out/settings" ] && ! diff "$out/settings" - <<< "$settings" > /dev/null; then
  echo "$out was made with other settings or inputs (< then, > now):" >&2
  diff "$out/settings" - <<< "$settings" >&2 || true
  echo "give --force true to make it anew, or remove $out, or run with the settings of then" >&2
  exit 1
elif [ -f "$out/.done" ]; then
  echo "$out: done already: $(cat "$out/.done") (--force true makes it anew)"
  exit 0
fi
mkdir -p "$out"
echo "$settings" > "$out/settings.tmp"
mv "$out/settings.tmp" "$out/settings"

utils/split_data.sh "$data" "$nj"
# shellcheck disable=SC2086  # the launcher and the arguments are lists of words
$cmd JOB=1:"$nj" "$out/log/JOB.log" "$@" $speed_args \
  --scp "$data/split$nj/JOB/vid.scp" --output-dir "$out/jobs$nj/JOB"
python steps_face/merge_jobs.py --scp "$data/vid.scp" --jobs-dir "$out/jobs$nj" --nj "$nj" \
  --archives "$archives" --output-dir "$out"
echo "$num_segments segments" > "$out/.done.tmp"
mv "$out/.done.tmp" "$out/.done"
rm -rf "$out"/jobs[0-9]*
