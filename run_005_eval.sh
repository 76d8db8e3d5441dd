#!/usr/bin/env bash
# Evaluate the scores of every system on every test set: tables, plots and one report for all.
#
# Reads:  exp/scores, all that stage 4 writes with these options; data/<test set>/trials and
#         trial_partitions; for the instructive trials exp/<modality>_embed/<embedder> and
#         exp/<modality>_det/<detector>
# Writes: exp/results/<experiment>/ with results.{txt,md,csv,json}, report.html, record.json,
#         <system>/<test set>.json and trials/<embedder>/<test set>.json
#
#   ./run_005_eval.sh --config-file global_conf/config_r50.sh
set -euo pipefail
if [ ! -f path.sh ]; then
  echo "$0: run the recipe's scripts from the repository root" >&2
  exit 1
fi
. ./cmd.sh
. ./utils/parse_options.sh
. ./utils/stage.sh
. ./path.sh

system_options
pairs=()
for modality in $modalities; do
  use_modality "$modality" detector embedder
  for pair in $trial_sets; do
    pair_options "$pair"
    pairs+=("${pair_args[*]@Q}")   # one word, quoted as a shell reads it
  done
done
results=(--pairs "${pairs[@]}" --output-dir "$exp_dir/results/$experiment" "${system_args[@]}")
python steps/evaluate.py "${results[@]}" --priors "$priors"
python steps/make_report.py "${results[@]}"
