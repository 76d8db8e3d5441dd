#!/usr/bin/env bash
# Evaluate the scores of every system on every test set: tables, plots and one report for all.
#
# Reads:  exp/scores/<embedder>/<system>/<test set>_scores of all systems that stage 4 writes with these options;
#         what they were made of; data/<test set>/trials and trial_partitions; for the pictures exp/face_det/<detector>
# Writes: exp/results/<embedder>/ with results.{txt,md,csv,json}, report.html, <system>/<test set>.json and
#         trials/<test set>.json
#
#   ./run_005_eval.sh --config-file global_conf/config_r50.sh
set -euo pipefail
[ -f path.sh ] || { echo "$0: run the recipe's scripts from the repository root" >&2; exit 1; }
. ./cmd.sh
. ./utils/parse_options.sh
. ./utils/trial_sets.sh
. ./utils/network_names.sh detector embedder
. ./utils/systems.sh
. ./path.sh

all_scores=$exp_dir/scores/$embedder
results=$exp_dir/results/$embedder
embeddings=$exp_dir/face_embed/$embedder
faces=$exp_dir/face_det/$detector
shown=${systems[0]}                                       # the system whose trials are shown with their faces:
[ -z "$calibration_set" ] || shown=${plain_systems[0]}_cal  # the first calibrated one, if any is
# What the tables say of a system is true of the scores that stage 4 would leave alone with these options, and of no others.
if ! ./run_004_score.sh "$@" --check true; then
  echo "$0: these are not the scores of these options; run ./run_004_score.sh with the same options first" >&2
  exit 1
fi
found=()
for pair in $trial_sets; do
  enroll=${pair%%:*}
  test=${pair##*:}
  partitions=()
  [ ! -f "$data_dir/$test/trial_partitions" ] || partitions=(--partitions "$data_dir/$test/trial_partitions")
  for system in "${systems[@]}"; do
    # shellcheck disable=SC2086  # a list of words
    python steps/evaluate.py --scores "$all_scores/$system/${test}_scores" --trials "$data_dir/$test/trials" \
      --name "$test" --system "$embedder" ${about[$system]} --priors "$priors" --primary "$primary_cost" \
      "${partitions[@]}" --output-dir "$results/$system"
  done
  reference=(--enroll-embed "$embeddings/$enroll" --enroll-faces "$faces/$enroll")
  if [ -f "$data_dir/$enroll/face_boundingbox" ]; then
    reference=(--enroll-embed "$embeddings/${enroll}_ref" --enroll-faces "$faces/${enroll}_ref"
      --fallback-embed "$embeddings/${enroll}_facedet" --fallback-faces "$faces/${enroll}_facedet")
  fi
  # shellcheck disable=SC2086  # a list of words
  python steps/pick_trials.py "${reference[@]}" --enroll-data "$data_dir/$enroll" --test-embed "$embeddings/$test" \
    --test-faces "$faces/$test" --trials "$data_dir/$test/trials" --scores "$all_scores/$shown/${test}_scores" \
    ${about[$shown]} --output "$results/trials/$test.json"
  for set in "$enroll" "${enroll}_ref" "${enroll}_facedet" "$test"; do
    [ ! -f "$faces/$set/record.json" ] || found+=("$faces/$set")
  done
done
save_settings "$results/config"
python steps/make_report.py --results-dir "$results" --systems "${systems[@]}" --sets "${tests[@]}" \
  --face-det "${found[@]}"
