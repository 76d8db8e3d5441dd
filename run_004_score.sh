#!/usr/bin/env bash
# Score the trials of every test set with every back-end; with --snorm-cohort normalise them, too.
# With --calibration-set also turn all scores into log-likelihood ratios, and with --fusion-systems
# fuse several systems. Test sets with a list `search` are searched instead, with --cast-backends
# also by all modalities together: ranked lists. --find-persons true tells who is where, and when.
#
# Reads:  exp/<modality>_embed/<embedder>, data/<enrolment set>/spk2utt, data/<test set>/trials;
#         for track and --find-persons exp/<modality>_det/<detector>; scores of others to fuse.
#         Searched: data/<enrolment set>/utt2spk, data/<test set>/{search,utt2group,relevant},
#         exp/<modality>_det/<detector>, exp/<modality>_train/<identifier>
# Writes: exp/scores/<embedder>/<system>/<test set>_scores, where <system> is <backend> or
#         <backend>_snorm, and <system>_cal; exp/scores/fusion/<experiment>/<test set>_scores;
#         exp/scores/who/<experiment>/<test set>_who.jsonl. Kept if intact and of the same inputs.
#         Searched: <test set>_ranks and _persons, with --calibration-set _nobody and nobody.json;
#         exp/scores/<cast back-end>/<experiment>/<test set>_ranks, _persons and _reasons.
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
logs=$exp_dir/scores/log/$experiment
train_roots=()
for modality in $modalities; do
  train_roots+=("$exp_dir/${modality}_train")
  use_modality "$modality" detector embedder
  for pair in "${scored_pairs[@]}"; do
    pair_options "$pair"
    step=(steps/score.py "${pair_args[@]}" "${system_args[@]}" --mem-gb "$mem_gb")
    if is_search "${pair##*:}"; then step=(steps/search.py "${pair_args[@]}" "${search_args[@]}"); fi
    "${once[@]}" --log "$logs/$modality.${pair##*:}.log" -- python "${step[@]}"
  done
done
for pair in "${cast_pairs[@]}"; do
  cast_options "$pair"
  "${once[@]}" --log "$logs/cast.${pair##*:}.log" -- python steps/search_cast.py "${cast_pair_args[@]}" "${cast_args[@]}"
done
if [ -n "$search_calibration" ]; then
  "${once[@]}" --log "$logs/calibrate_search.log" -- \
    python steps/calibrate_search.py "${search_args[@]}" --data-dir "$data_dir" --train-roots "${train_roots[@]}"
fi
if [ -n "$train_trials" ]; then
  "${once[@]}" --log "$logs/calibrate.log" -- python steps/calibrate.py "${system_args[@]}" --train-trials "$train_trials"
fi
if [ -n "$fusion_systems" ]; then
  "${once[@]}" --log "$logs/fuse.log" -- python steps/fuse.py "${system_args[@]}" --train-trials "$train_trials"
fi
for pair in "${who_pairs[@]}"; do
  who_options "$pair"
  "${once[@]}" --log "$logs/who.${pair##*:}.log" -- python steps/find_persons.py "${who_args[@]}"
done
