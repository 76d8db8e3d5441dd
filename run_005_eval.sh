#!/usr/bin/env bash
# Evaluate the scores of every test set: tables, plots and one report.
#
# Reads:  exp/scores/<embedder>/<backend>/<test set>_scores, data/<test set>/trials and trial_partitions
# Writes: exp/results/<embedder>/<backend>/ with results.{txt,csv,json} and report.html
#
#   ./run_005_eval.sh --config-file global_conf/config_r50.sh
set -euo pipefail
[ -f path.sh ] || { echo "$0: run the recipe's scripts from the repository root" >&2; exit 1; }
. ./cmd.sh
. ./utils/parse_options.sh
. ./utils/trial_sets.sh
. ./path.sh
[ -n "$backends" ] || { echo "$0: backends is empty; expected a back-end or several, e.g. max" >&2; exit 1; }

for backend in $backends; do
  for norm in "" ${snorm_cohort:+_snorm}; do
    scores=$exp_dir/scores/$embedder/$backend$norm
    results=$exp_dir/results/$embedder/$backend$norm
    tests=()
    faces=()
    for pair in $trial_sets; do
      enroll=${pair%%:*}
      test=${pair##*:}
      tests+=("$test")
      partitions=()
      [ ! -f "$data_dir/$test/trial_partitions" ] || partitions=(--partitions "$data_dir/$test/trial_partitions")
      python steps_face/evaluate.py --scores "$scores/${test}_scores" --trials "$data_dir/$test/trials" --name "$test" \
        --system "$embedder/$backend$norm" --priors "$priors" --primary "$primary_cost" "${partitions[@]}" --output-dir "$results"
      for set in "$enroll" "${enroll}_ref" "${enroll}_facedet" "$test"; do
        [ ! -f "$exp_dir/face_det/$detector/$set/.done" ] || faces+=("$exp_dir/face_det/$detector/$set")
      done
    done
    save_settings "$results/config"
    python steps_face/make_report.py --results-dir "$results" --sets "${tests[@]}" --face-det "${faces[@]}"
  done
done
