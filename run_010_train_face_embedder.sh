#!/usr/bin/env bash
# Train a face embedding network; export the best epoch's to ONNX with a model card.
#
# Reads:  train_data: folders or tars of <identity>/<image>, or <crops.tar>:<utt2spk>
#         data/<set> of train_sets: frames.scp, or what stage 2 made of vid.scp
#         exp/face_models/<train_teacher>, if one is named
# Writes: exp/face_train/<train_name>/ with <train_name>.onnx, <train_name>.yaml, checkpoints,
#         log.jsonl, curves.png
#         Run a killed training again: it resumes after its last checkpoint.
#         To use the network in the other stages: ./run_000_get_pretrained_models.sh
#           --face-embedder exp/face_train/<train_name>/<train_name>.yaml
#
#   ./run_010_train_face_embedder.sh --config-file global_conf/config_train_voxceleb_face.sh
#   ./run_010_train_face_embedder.sh --config-file global_conf/config_train_arcface_tiny.sh
set -euo pipefail
if [ ! -f path.sh ]; then
  echo "$0: run the recipe's scripts from the repository root" >&2
  exit 1
fi
. ./cmd.sh
train_name=face_r18           # name of the network: a folder of exp/face_train
train_sets=                   # data sets to learn from, too; an epoch has one face per segment
train_architecture=iresnet18  # or iresnet34, iresnet50, iresnet100, mobilefacenet, small_resnet
train_embedding_size=512      # [>=1] values of an embedding
train_loss=arcface            # [arcface|cosface|softmax|none] none: from the teacher only
train_scale=64.0              # [>0] s of arcface and cosface
train_margin=0.4              # [>=0] m of arcface, in radians, and of cosface
train_sub_centres=1           # [>=1] centres per identity; the nearest counts; 3 for noisy labels
train_sample_rate=1.0         # [>0..1] share of identities per step; below 1 for 100,000s of them
train_augment="mirror=0.5"    # how often each, 0..1: mirror jitter colour ...: docs/networks.md
train_batch=400               # [>=1] crops per step, all GPUs together
valid_pictures=               # folder or tar of aligned faces to validate on; empty: none
valid_pairs=                  # pairs of them to choose the epoch by (LFW View 1: DevTrain)
test_pairs=                   # pairs of other persons, for the card's figures only (DevTest)
. ./utils/parse_options.sh
. ./utils/stage.sh
. ./utils/training.sh face "--face-detector '' --face-embedder"
use_modality face
set_folders
# shellcheck disable=SC2154  # what utils/stage.sh and utils/training.sh set
$launch "$output/log/train.log" "${python[@]}" steps_face/train_embedder.py \
  --train-data "${train_folders[@]}" --items-dir "$items_dir" --augment "$train_augment" \
  --embedding-size "$train_embedding_size" --loss "$train_loss" --scale "$train_scale" \
  --margin "$train_margin" --sub-centres "$train_sub_centres" --sample-rate "$train_sample_rate" \
  --valid-pictures "$valid_pictures" --valid-pairs "$valid_pairs" --test-pairs "$test_pairs" \
  "${training[@]}" "${teaching[@]}"
echo "$output/$train_name.yaml"
