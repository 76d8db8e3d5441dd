#!/usr/bin/env bash
# Run a command that writes a file, unless the file is there and was made by this command from these inputs. Where it was
# made otherwise, what differs is said.
#
# Usage: utils/once.sh [options] <output> -- <command> [<argument> ...]
#
# <output>.made holds the command and the hashes of the inputs; it is written when the output is there. An output that a job
# elsewhere has written may be seen late on a network file system: it is waited for up to a minute.
#
# Example:
#   utils/once.sh --log log/dev.log --input data/dev/trials dev_scores -- \
#     python steps/score.py --trials data/dev/trials --output dev_scores
set -euo pipefail
trap 'exit 130' INT   # bash goes on after Ctrl-C where the command that it waits for ends as if nothing had happened

cmd=utils/run.py   # launcher
log=               # log of the command
inputs=()          # files whose content decides the outcome: --input FILE, again for each
also=()            # files that the command writes before the output: --also FILE, again for each
speed_args=        # arguments of the command that change its speed and not its outcome
force=false        # true: run the command in any case
check=false        # true: run nothing, and fail where the command would be run
patience_s=60      # seconds to wait for an output that is seen late

while [[ ${1:-} == --?* ]]; do
  name=${1#--}
  name=${name//-/_}
  case $name in
    input) inputs+=("${2-}") ;;
    also) also+=("${2-}") ;;
    cmd | log | speed_args | force | check | patience_s) printf -v "$name" %s "${2-}" ;;
    *) echo "$0: unknown option $1; valid: --cmd --log --input --also --speed-args --force --check --patience-s" >&2; exit 1 ;;
  esac
  [ $# -ge 2 ] || { echo "$0: option $1 lacks its value" >&2; exit 1; }
  shift 2
done
if [ $# -lt 3 ] || [ "$2" != -- ] || [ -z "$log" ]; then
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 1
fi
output=$1
shift 2

. ./utils/need_files.sh
need_files "${inputs[@]}"
made=$(
  printf '%q ' "$@"
  echo
  [ ${#inputs[@]} = 0 ] || sha256sum "${inputs[@]}"
)

are_there() {
  local file
  for file in "$output" "${also[@]}"; do
    [ -f "$file" ] || return 1
  done
}

if are_there && [ -f "$output.made" ]; then
  changes=$({ diff "$output.made" - <<< "$made" || true; } | sed -n '1,12p; 13s/.*/.../p')
  if [ "$force" = false ] && [ -z "$changes" ]; then
    $check || echo "$output: done already"
    exit 0
  fi
  if $check; then
    echo "$output was made by another command or of other inputs (< then, > now):"$'\n'"$changes" >&2
    exit 1
  fi
  [ -z "$changes" ] || echo "$output: made anew, since its command or inputs have changed (< then, > now):"$'\n'"$changes"
elif $check; then
  echo "$output is not there, or nothing tells how it was made" >&2
  exit 1
fi
rm -f "$output.made" "$output" "${also[@]}"   # if the command fails, nobody takes what was there for its work
# shellcheck disable=SC2086  # the launcher and the arguments are lists of words
$cmd "$log" "$@" $speed_args
deadline=$((SECONDS + patience_s))
while ! are_there; do
  if ((SECONDS >= deadline)); then
    echo "$output: not there $patience_s s after the end of the command that should have written it; see $log" >&2
    exit 1
  fi
  sleep 0.2
done
echo "$made" > "$output.made.tmp"
mv "$output.made.tmp" "$output.made"
