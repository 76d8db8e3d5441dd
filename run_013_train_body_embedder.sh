#!/usr/bin/env bash
# Train a body embedding network; export the best epoch's to ONNX with a model card.
#
# Reads:  train_data: folders or tars of images named as in Market-1501 or of <person>/<image>
#         data/<set> of train_sets, and its persons in exp/body_det/<detector or given>/<set>
#         exp/body_models/<train_teacher>, if some are named
# Writes: exp/body_train/<train_name>/: <train_name>.onnx and .yaml, checkpoints, log.jsonl,
#         curves.png. Run a killed training again: it resumes after its last checkpoint.
#         To use the network: ./run_000_get_pretrained_models.sh --modalities body
#           --body-embedder exp/body_train/<train_name>/<train_name>.yaml
#
#   ./run_013_train_body_embedder.sh --train-data market/bounding_box_train --train-held-out 75
set -euo pipefail
if [ ! -f path.sh ]; then
  echo "$0: run the recipe's scripts from the repository root" >&2
  exit 1
fi
. ./cmd.sh
train_name=body_osnet         # name of the network: a folder of exp/body_train
train_sets=                   # data sets to learn from, too; segments of nobody are left out
train_unlabelled=             # persons without names, to imitate the teachers on
train_unlabelled_batch=32     # [>=1] crops of these per step
train_architecture=osnet_x0_25  # or half_osnet_x0_25, resnet50_reid ...: docs/networks.md
train_embedding_size=0        # [>=0] values of an embedding; 0: as the architecture has them
train_pretrained=             # file of ImageNet weights to start the backbone from; empty: none
train_loss=softmax            # [softmax|none] loss of classes, one a person
train_smoothing=0.1           # [0..1] share of the target spread over all persons, below 1
train_triplets=hard           # [hard|all|weighted] which triplets count; weighted: by a softmax
train_triplet_margin=0.3      # [>=0] margin of the triplets; 0: the soft margin
train_triplet_weight=1.0      # [>=0] weight of the triplets, that of classes being 1; 0: none
train_triplets_behind_neck=false  # [true|false] true: triplets behind the batch norm, like classes
train_batch=64                # [>=1] crops of known persons per step, all GPUs together
train_images=4                # [>=0] of these, crops of each person; 0: each image once an epoch
train_augment="mirror=0.5 pad=1 erase=0.5"  # how often each, 0..1: docs/networks.md
train_mirror=sum              # [none|sum] sum: embeddings of images and mirror images are added
valid_data=                   # persons to choose the epoch by, like train_data; empty: none
valid_set=                    # or a data set; empty: none
train_held_out=0              # [>=0] or so many persons of the training data, who are not learnt
test_data=                    # other persons, for the card's figures only
train_epochs=120              # [>=1] passes over the persons
train_lr=0.00035              # [>0] learning rate
train_weight_decay=0.0005     # [>=0] decay of the weights per step, times the rate
train_decay=0.1               # [>0] factor of the step schedule
train_decay_epochs="40 70"    # [not empty] epochs between its steps; "30 35": steps after these
train_warmup_epochs=10.0      # [>=0] epochs in which the rate rises linearly
. ./utils/parse_options.sh
. ./utils/stage.sh
. ./utils/training.sh body "--modalities body --body-embedder"
use_modality body
set_folders
# shellcheck disable=SC2154  # what utils/stage.sh and utils/training.sh set
$launch "$output/log/train.log" "${python[@]}" steps_body/train_embedder.py --items-dir "$items_dir" "${training[@]}" \
  --train-data "${train_folders[@]}" --unlabelled "${unlabelled_folders[@]}" \
  --unlabelled-batch "$train_unlabelled_batch" --pretrained "$train_pretrained" \
  --embedding-size "$train_embedding_size" --loss "$train_loss" --smoothing "$train_smoothing" \
  --triplets "$train_triplets" --triplet-margin "$train_triplet_margin" --images "$train_images" \
  --triplet-weight "$train_triplet_weight" --triplets-behind-neck "$train_triplets_behind_neck" \
  --valid-data "${valid_folders[@]}" --held-out "$train_held_out" \
  --test-data "${test_folders[@]}" --mirror "$train_mirror" --augment "$train_augment" "${teaching[@]}"
echo "$output/$train_name.yaml"
