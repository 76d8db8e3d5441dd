# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # the stages use what is set here; utils/parse_options.sh sets the options
# What the stages share. Sourced after utils/parse_options.sh.
#
#   data_sets       the data folders of $trial_sets, each once
#   test_sets       its test sets, each once
#   system_options  what steps/score.py, calibrate.py, fuse.py, evaluate.py and make_report.py are told of all systems
#   pair_options    function: sets the array of this name to what they are told of a pair of sets

: "${modalities:=face}" "${face_detector=${detector:-}}" "${face_embedder=${embedder:-}}"
if [ -z "${experiment:-}" ]; then
  experiment=$(basename "$config_file" .sh)
  experiment=${experiment#config_}
fi

data_sets=()
test_sets=()
declare -A enroll_of=()
for pair in $trial_sets; do
  if [[ ! $pair =~ ^[A-Za-z0-9_][A-Za-z0-9._-]*:[A-Za-z0-9_][A-Za-z0-9._-]*$ ]]; then
    echo "$0: trial_sets: expected <enrolment set>:<test set>, found '$pair'; names are letters, digits, '.', '_' and '-'" >&2
    exit 1
  fi
  if [ "${enroll_of[${pair##*:}]:=${pair%%:*}}" != "${pair%%:*}" ]; then
    echo "$0: trial_sets: ${pair##*:} stands behind two enrolment sets, ${enroll_of[${pair##*:}]} and ${pair%%:*}, and its" \
      "scores have one file; copy $data_dir/${pair##*:} under another name for one of them" >&2
    exit 1
  fi
  for name in "${pair%%:*}" "${pair##*:}"; do
    if [[ " ${data_sets[*]} " != *" $name "* ]]; then
      data_sets+=("$name")
    fi
  done
  if [[ " ${test_sets[*]} " != *" ${pair##*:} "* ]]; then
    test_sets+=("${pair##*:}")
  fi
done
if [ ${#data_sets[@]} = 0 ]; then
  echo "$0: trial_sets is empty; expected <enrolment set>:<test set> ..." >&2
  exit 1
fi

embedders=()
for modality in $modalities; do
  for option in "${modality}_detector" "${modality}_embedder"; do
    case ${!option} in
      "") echo "$0: $option is empty; expected the name of an installed network" >&2; exit 1 ;;
      */* | *.yaml)
        echo "$0: $option: expected the name of an installed network, found the path '${!option}';" \
          "stage 0 takes the path of a card, and from then on it is called $(basename "${!option}" .yaml)" >&2
        exit 1
        ;;
    esac
  done
  embedders+=("${!option}")
done

system_options=(--scores-dir "$exp_dir/scores" --experiment "$experiment" --embedders "${embedders[*]}"
  --test-sets "${test_sets[*]}" --backends "$backends" --thr-ahc "$thr_ahc"
  --snorm-cohort "$snorm_cohort" --ncoh "$ncoh" --ncoh-discard "$ncoh_discard"
  --calibration-set "$calibration_set" --fusion-systems "$fusion_systems" --max-systems "$max_systems"
  --primary-cost "$primary_cost")

# Arguments: modality, <enrolment set>:<test set>. Its modality.sh must have been sourced.
pair_options() {
  local detector=${1}_detector embedder=${1}_embedder test_parts
  test_parts=$(parts_of "${2##*:}")
  pair_options=(--modality "$1" --items-dir "$exp_dir/${1}_det/${!detector}" --embed-dir "$exp_dir/${1}_embed/${!embedder}"
    --enroll-parts "$(parts_of "${2%%:*}")" --enroll-data "$data_dir/${2%%:*}"
    --test-part "${test_parts##*[[:space:]]}" --test-data "$data_dir/${2##*:}")
}
