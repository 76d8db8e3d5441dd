#!/usr/bin/env bash
# Train an identifier: a network that scores the vector of a track for each person. Export the best
# epoch's, or the mean of those of all folds, to ONNX with a model card.
#
# Reads:  data/<set>/utt2spk of train_sets, data/<valid_set>/relevant, and what stages 2 and 3 made
#         of these sets: exp/<modality>_det/<detector>, exp/<modality>_embed/<embedder>
# Writes: exp/<modality>_train/<train_name>/ with <train_name>.onnx, <train_name>.yaml, checkpoints,
#         log.jsonl, curves.png; with train_folds the last three in fold1/, fold2/, ...
#         Run a killed training again: it resumes after its last checkpoint.
#         To use the network: ./run_004_score.sh --identifiers <train_name>
#
#   ./run_014_train_identifier.sh --train-sets iqiyi_vid_train --valid-set iqiyi_vid_val
#   ./run_014_train_identifier.sh --train-sets "iqiyi_vid_train iqiyi_vid_val" --train-folds 5
set -euo pipefail
if [ ! -f path.sh ]; then
  echo "$0: run the recipe's scripts from the repository root" >&2
  exit 1
fi
. ./cmd.sh
train_name=identifier         # name of the network: a folder of exp/<modality>_train
train_modality=face           # what persons are recognised by: a folder steps_<modality>
train_sets=                   # data sets to learn from; segments without a person are strangers
valid_set=                    # searched set with `relevant` to choose the epoch by; empty: none
train_embedders=              # whose vectors stand side by side; empty: the modality's embedder
train_architecture=cosine     # [original|cosine] original: that of the challenge
train_hidden=                 # widths of layers before the classifier; empty: none, or 1024 1024
train_dropout=0.0             # [0..1] share of their values left out in training
train_score=logit             # [logit|log-probability] what ranks
train_loss=sigmoid            # [sigmoid|softmax|cosface|arcface] all but softmax are for cosine
train_scale=20.0              # [>0] s of the cosines
train_margin=0.1              # [>=0] m of arcface, in radians, and of cosface
train_focal=0.0               # [>=0] exponent of the focal loss; 0: none
train_strangers=1             # [>=0] classes of strangers, by k-means from 2 on; 0: left out
train_stranger_weight=1.0     # [>=0] weight of the mean loss of strangers
train_items="1=0.25 3=0.65 5=0.1"  # of how many items a sample is pooled, and how often; or all=1
train_batch=256               # [>=1] segments per step, all processes together
train_folds=0                 # [>=0] networks, each trained without its part of the segments
train_epochs=30               # [>=1] passes over the segments
train_lr=0.003                # [>0] learning rate
train_schedule=cosine         # [step|cosine] step: times train_decay after epochs; cosine: to 0
train_workers=0               # [>=0] processes per GPU, or per process, that load vectors
. ./utils/parse_options.sh
. ./utils/stage.sh
. ./utils/training.sh "$train_modality"

use_modality "$train_modality" detector embedder
set_options
# shellcheck disable=SC2086  # train_hidden is a list of words
$launch "$output/log/train.log" "${python[@]}" steps/train_identifier.py \
  --modality "$train_modality" --hidden $train_hidden "${set_args[@]}" \
  --dropout "$train_dropout" --score "$train_score" --loss "$train_loss" --scale "$train_scale" \
  --margin "$train_margin" --focal "$train_focal" \
  --strangers "$train_strangers" --stranger-weight "$train_stranger_weight" \
  --items "$train_items" --folds "$train_folds" --link-cosine "$link_cosine" "${training[@]}"
echo "$output/$train_name.yaml"
