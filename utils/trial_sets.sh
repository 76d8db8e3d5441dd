# shellcheck shell=bash
# shellcheck disable=SC2154  # utils/parse_options.sh sets trial_sets
# Check $trial_sets and list its data folders, each once, in the array `sets`. Sourced after utils/parse_options.sh.

sets=()
for pair in $trial_sets; do
  if [[ ! $pair =~ ^[A-Za-z0-9_][A-Za-z0-9._-]*:[A-Za-z0-9_][A-Za-z0-9._-]*$ ]]; then
    echo "$0: trial_sets: expected <enrolment set>:<test set>, found '$pair'; names are letters, digits, '.', '_' and '-'" >&2
    exit 1
  fi
  for set in ${pair/:/ }; do
    [[ " ${sets[*]} " == *" $set "* ]] || sets+=("$set")
  done
done
if [ ${#sets[@]} = 0 ]; then
  echo "$0: trial_sets is empty; expected <enrolment set>:<test set> ..." >&2
  exit 1
fi
