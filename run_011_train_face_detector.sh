#!/usr/bin/env bash
# Train a face detector; export the best epoch's to ONNX with a model card.
#
# Reads:  train_data: folders or tars of photos; train_annotations: the faces marked in them
#         exp/face_models/<train_teacher>, if one is named
# Writes: exp/face_train/<train_name>/ with <train_name>.onnx, <train_name>.yaml, checkpoints,
#         log.jsonl, curves.png
#         Run a killed training again: it resumes after its last checkpoint.
#         To use the network in the other stages: ./run_000_get_pretrained_models.sh
#           --face-detector exp/face_train/<train_name>/<train_name>.yaml
#
#   ./run_011_train_face_detector.sh --train-name mnet --train-data WIDER_train/images \
#     --train-annotations label.txt
#   ./run_011_train_face_detector.sh --config-file global_conf/config_train_retinaface_tiny.sh
set -euo pipefail
if [ ! -f path.sh ]; then
  echo "$0: run the recipe's scripts from the repository root" >&2
  exit 1
fi
. ./cmd.sh
train_name=retinaface                           # name of the network: a folder of exp/face_train
train_architecture=retinaface_mobilenet025      # retinaface_mobilenet025 or retinaface_tiny
train_annotations=                              # as WIDER FACE with RetinaFace's landmarks
train_augment="mosaic=0.3 mirror=0.5 zoom=0.8"  # how often each, 0..1; see docs/networks.md
train_batch=32                                  # [>=1] photos per step, all GPUs together
train_sizes="256 320 448"                       # sides of the input; each step takes one
train_held_out=0                                # [>=0] photos of train_data to validate on
valid_data=                                     # folders or tars of other photos to validate on
valid_annotations=                              # the faces marked in those
test_data=                                      # yet others, for the card's figures only
test_annotations=                               # the faces marked in those; empty: the teacher's
. ./utils/parse_options.sh
. ./utils/training.sh face "--face-embedder '' --face-detector"
set_folders
# shellcheck disable=SC2154  # what utils/training.sh sets
$launch "$output/log/train.log" "${python[@]}" steps_face/train_detector.py \
  --train-data "${train_folders[@]}" --train-annotations "$train_annotations" --sizes "$train_sizes" \
  --augment "$train_augment" \
  --held-out "$train_held_out" --valid-data "${valid_folders[@]}" --valid-annotations "$valid_annotations" \
  --test-data "${test_folders[@]}" --test-annotations "$test_annotations" \
  "${training[@]}"
echo "$output/$train_name.yaml"
