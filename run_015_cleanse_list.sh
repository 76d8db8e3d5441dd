#!/usr/bin/env bash
# Find wrong labels in training sets, by all modalities in use, and write the sets without them.
#
# Reads:  data/<set> of train_sets, with utt2spk; of each of `modalities`
#         exp/<modality>_embed/<embedder>/<set> of stage 3, and for images and tracks
#         exp/<modality>_det/<detector>/<set>. Stages 2 and 3 make them: with <set>:<set> in
#         trial_sets
# Writes: exp/cleanse/<experiment>/<set>/ with train_all_clean.txt, a list of six columns,
#         decisions.tsv, relabel, results.json, results.txt and report.html; data/<set>_clean, to
#         train on. What is there, intact and of the same options and inputs is kept.
#
#   ./run_015_cleanse_list.sh --train-sets vox2_train --modalities "face speaker"
#   ./run_015_cleanse_list.sh --train-sets "vox1_train vox2_train" --cleanse-precision 0.95
set -euo pipefail
if [ ! -f path.sh ]; then
  echo "$0: run the recipe's scripts from the repository root" >&2
  exit 1
fi
. ./cmd.sh
train_sets=                  # data sets to cleanse, each by itself
cleanse_precision=0.0        # [0..1] wished share of wrong ones in the noisy; 0: likelier wrong
cleanse_duplicate=0.98       # [0..1] cosine from which two of different labels are the same
cleanse_relabel=false        # true: what surely is of another label is kept, with that label
. ./utils/parse_options.sh
. ./utils/stage.sh
. ./path.sh

if [ -z "${train_sets// /}" ]; then
  echo "$0: train_sets is empty; expected names of data sets, such as vox2_train" >&2
  exit 1
fi
for set in $train_sets; do
  need "$data_dir/$set/utt2spk" ./run_001_prepare_data.sh
  views=()
  for modality in $modalities; do
    use_modality "$modality" detector embedder
    part=$(parts_of "$set")
    need "$embed_dir/${part%% *}/embed.scp" "stages 2 and 3 with $set:$set in trial_sets"
    view=(--modality "$modality" --embed-dir "$embed_dir" --items-dir "$items_dir" --part "${part%% *}")
    views+=("${view[*]@Q}")   # one word, quoted as a shell reads it
  done
  output=$exp_dir/cleanse/$experiment/$set
  utils/once.py --cmd "$cmd" --force "$force" --log "$output/log/cleanse.log" -- \
    python steps/cleanse_list.py --data "$data_dir/$set" --views "${views[@]}" --output-dir "$output" \
    --clean-data "$data_dir/${set}_clean" --precision "$cleanse_precision" \
    --duplicate "$cleanse_duplicate" --relabel "$cleanse_relabel" --link-cosine "$link_cosine"
  cat "$output/results.txt"
  echo "report: $output/report.html"
done
