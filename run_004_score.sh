#!/usr/bin/env bash
# Score the trials of every test set with every back-end; with --snorm-cohort normalise them, too.
# With --calibration-set also turn all scores into log-likelihood ratios, and with --fusion-systems
# fuse several systems.
#
# Reads:  exp/<modality>_embed/<embedder>, data/<enrolment set>/spk2utt, data/<test set>/trials;
#         for the back-end track exp/<modality>_det/<detector>; scores of other programs to fuse
# Writes: exp/scores/<embedder>/<system>/<test set>_scores, where <system> is <backend> or
#         <backend>_snorm, and <system>_cal; exp/scores/fusion/<experiment>/<test set>_scores.
#         Scores that are there, intact and of the same options and inputs are kept.
#
#   ./run_004_score.sh --config-file global_conf/config_r50.sh --backends "max ahc"
#   ./run_004_score.sh --calibration-set dev_test --fusion-systems "max ./voice/scores/ecapa"
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
once=(utils/once.py --cmd "$cmd" --force "$force")
for modality in $modalities; do
  use_modality "$modality" detector embedder
  for pair in $trial_sets; do
    pair_options "$pair"
    "${once[@]}" --log "$exp_dir/scores/log/$experiment/$modality.${pair##*:}.log" -- \
      python steps/score.py "${pair_args[@]}" "${system_args[@]}" --mem-gb "$mem_gb"
  done
done
train_trials=$data_dir/$calibration_set/trials
if [ -n "$calibration_set" ]; then
  "${once[@]}" --log "$exp_dir/scores/log/$experiment/calibrate.log" -- \
    python steps/calibrate.py "${system_args[@]}" --train-trials "$train_trials"
fi
if [ -n "$fusion_systems" ]; then
  "${once[@]}" --log "$exp_dir/scores/log/$experiment/fuse.log" -- \
    python steps/fuse.py "${system_args[@]}" --train-trials "$train_trials"
fi
