# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # the scripts use what is set here; utils/parse_options.sh sets the options
# Check the options of scoring and list what they make. Sourced after utils/parse_options.sh and utils/trial_sets.sh.
#
#   tests          the test sets of $trial_sets, each once
#   systems        all systems in the order of the tables: folders below exp/scores/<face_embedder>
#   plain_systems  those whose scores calibration turns into log-likelihood ratios
#   about          system -> the options that tell steps/evaluate.py what it is

[ -n "$backends" ] || { echo "$0: backends is empty; expected a back-end or several, e.g. max" >&2; exit 1; }
if [ -n "$fusion_systems" ] && [ -z "$calibration_set" ]; then
  echo "$0: fusion_systems needs calibration_set, the test set to choose and train the fusion on" >&2
  exit 1
fi

tests=()
for pair in $trial_sets; do
  [[ " ${tests[*]} " == *" ${pair##*:} "* ]] || tests+=("${pair##*:}")
done
if [ -n "$calibration_set" ] && [[ " ${tests[*]} " != *" $calibration_set "* ]]; then
  echo "$0: calibration_set: expected one of the test sets (${tests[*]}), found '$calibration_set'" >&2
  exit 1
fi

systems=()
plain_systems=()
declare -A about=()
for backend in $backends; do
  for norm in "" ${snorm_cohort:+_snorm}; do
    for calibrated in "" ${calibration_set:+_cal}; do
      system=$backend$norm$calibrated
      systems+=("$system")
      [ -n "$calibrated" ] || plain_systems+=("$system")
      about[$system]="--backend $backend ${norm:+--snorm-cohort $snorm_cohort} ${calibrated:+--calibrated-on $calibration_set}"
    done
  done
done
if [ -n "$fusion_systems" ]; then
  systems+=(fusion)
  about[fusion]="--backend fusion --calibrated-on $calibration_set"
fi
