#!/usr/bin/env bash
# Train a face detector; export the best epoch's to ONNX with a model card.
#
# Reads:  train_data, train_annotations; valid_data and valid_annotations; exp/face_models/<teacher> if there is one
# Writes: exp/face_train/<train_name>/ with <train_name>.onnx, <train_name>.yaml, checkpoints, log.jsonl, curves.png
#         Killed and run again it goes on from its last checkpoint. To use the network in the other stages:
#         ./run_000_get_pretrained_models.sh --detector exp/face_train/<train_name>/<train_name>.yaml
#
#   ./run_011_train_face_detector.sh --train-name mnet --train-data WIDER_train/images --train-annotations label.txt
#   ./run_011_train_face_detector.sh --config-file global_conf/config_train_retinaface_tiny.sh
set -euo pipefail
[ -f path.sh ] || { echo "$0: run the recipe's scripts from the repository root" >&2; exit 1; }
. ./cmd.sh
train_name=retinaface                                # name of the network: a folder of exp/face_train
train_architecture=retinaface_mobilenet025           # retinaface_mobilenet025 or retinaface_tiny
train_augment="mosaic=0.3 mirror=0.5 zoom=0.8"       # how often, 0..1: mosaic mirror aim cut zoom colour ...
train_batch=32                                       # pictures per step, all GPUs together
. ./utils/parse_options.sh
. ./utils/training_options.sh "--embedder '' --detector"
export VIDPERSON_EXTRAS="${VIDPERSON_EXTRAS:-} torch"
. ./path.sh

output=$exp_dir/face_train/$train_name
[ -f "$output/last.pt" ] || save_settings "$output/config"   # that of the weights, if there are any
# shellcheck disable=SC2086,SC2154  # train_data and valid_data are lists of words
$launch "$output/log/train.log" "${python[@]}" steps_face/train_detector.py --train-data $train_data --output-dir "$output" \
  --train-annotations "$train_annotations" --sizes "$train_sizes" --held-out "$train_held_out" \
  --valid-data $valid_data --valid-annotations "$valid_annotations" "${teacher[@]}" "${training[@]}"
save_settings "$output/config"
echo "$output/$train_name.yaml"
