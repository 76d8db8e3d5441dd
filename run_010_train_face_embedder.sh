#!/usr/bin/env bash
# Train a face embedding network; export the best epoch's to ONNX with a model card.
#
# Reads:  train_data; valid_pictures and valid_pairs; exp/face_models/<teacher> if there is one
# Writes: exp/face_train/<train_name>/ with <train_name>.onnx, <train_name>.yaml, checkpoints, log.jsonl, curves.png
#         Killed and run again it goes on from its last checkpoint. To use the network in the other stages:
#         ./run_000_get_pretrained_models.sh --embedder exp/face_train/<train_name>/<train_name>.yaml
#
#   ./run_010_train_face_embedder.sh --train-name r18 --train-data /corpora/voxceleb2 --train-gpus 1 --train-precision bf16
#   ./run_010_train_face_embedder.sh --config-file global_conf/config_train_arcface_tiny.sh
set -euo pipefail
[ -f path.sh ] || { echo "$0: run the recipe's scripts from the repository root" >&2; exit 1; }
. ./cmd.sh
. ./utils/parse_options.sh
. ./utils/training_options.sh "--detector '' --embedder"
export VIDPERSON_EXTRAS="${VIDPERSON_EXTRAS:-} torch"
. ./path.sh

output=$exp_dir/face_train/$train_name
[ ${#teacher[@]} -eq 0 ] || teacher+=(--cosine-weight "$train_cosine_weight" --relation-weight "$train_relation_weight")
[ -f "$output/last.pt" ] || save_settings "$output/config"   # that of the weights, if there are any
# shellcheck disable=SC2086,SC2154  # train_data is a list of words
$launch "$output/log/train.log" "${python[@]}" steps_face/train_embedder.py --train-data $train_data --output-dir "$output" \
  --embedding-size "$train_embedding_size" --loss "$train_loss" --scale "$train_scale" --margin "$train_margin" \
  --sub-centres "$train_sub_centres" --sample-rate "$train_sample_rate" --valid-pictures "$valid_pictures" \
  --valid-pairs "$valid_pairs" --valid-threshold-pairs "$valid_threshold_pairs" "${teacher[@]}" "${training[@]}"
save_settings "$output/config"
echo "$output/$train_name.yaml"
