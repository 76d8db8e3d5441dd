# shellcheck shell=bash
# shellcheck disable=SC2154  # utils/parse_options.sh sets trial_sets and data_dir
# Check $trial_sets and list its data folders, each once, in the array `sets`. Sourced after utils/parse_options.sh.

sets=()
declare -A enroll_of=()
for pair in $trial_sets; do
  if [[ ! $pair =~ ^[A-Za-z0-9_][A-Za-z0-9._-]*:[A-Za-z0-9_][A-Za-z0-9._-]*$ ]]; then
    echo "$0: trial_sets: expected <enrolment set>:<test set>, found '$pair'; names are letters, digits, '.', '_' and '-'" >&2
    exit 1
  fi
  enroll=${pair%%:*}
  test=${pair##*:}
  if [ "${enroll_of[$test]:=$enroll}" != "$enroll" ]; then
    echo "$0: trial_sets: $test stands behind two enrolment sets, ${enroll_of[$test]} and $enroll, and its scores have one file;" \
      "copy $data_dir/$test under another name for one of them" >&2
    exit 1
  fi
  for set in "$enroll" "$test"; do
    [[ " ${sets[*]} " == *" $set "* ]] || sets+=("$set")
  done
done
if [ ${#sets[@]} = 0 ]; then
  echo "$0: trial_sets is empty; expected <enrolment set>:<test set> ..." >&2
  exit 1
fi
