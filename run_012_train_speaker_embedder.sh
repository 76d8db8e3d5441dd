#!/usr/bin/env bash
# Train a voice embedding network; export the best epoch's to ONNX with a model card.
#
# Reads:  train_data: folders or tars of <speaker>/.../<sound>; data/<set> of train_sets
#         exp/speaker_models/<train_teacher>, if some are named
# Writes: exp/speaker_train/<train_name>/: <train_name>.onnx and .yaml, checkpoints, log.jsonl,
#         curves.png. Run a killed training again: it resumes after its last checkpoint.
#         To use the network: ./run_000_get_pretrained_models.sh --modalities speaker
#           --speaker-embedder exp/speaker_train/<train_name>/<train_name>.yaml
#
#   ./run_012_train_speaker_embedder.sh --train-data voxceleb2/wav --train-held-out 50
set -euo pipefail
if [ ! -f path.sh ]; then
  echo "$0: run the recipe's scripts from the repository root" >&2
  exit 1
fi
. ./cmd.sh
train_name=speaker_ecapa      # name of the network: a folder of exp/speaker_train
train_sets=                   # data sets to learn from, too
train_unlabelled=             # folders or tars of speech of anyone, to imitate the teachers on
train_unlabelled_batch=32     # [>=1] crops of these per step
train_architecture=ecapa_c512 # or ecapa_c192 (small), resnet34_tstp ...: docs/networks.md
train_embedding_size=192      # [>=1] values of an embedding
train_features=logmel         # [logmel|logmel60|kaldi] as AVCleanse, ReDimNet-B0, WeSpeaker
train_crop_s=2.015            # [>0] seconds of a crop; shorter speech is repeated
train_loss=arcface            # [arcface|cosface|softmax|none] none: from the teacher only
train_scale=30.0              # [>0] s of arcface and cosface
train_margin=0.2              # [>=0] m of arcface, in radians, and of cosface
train_margin_epochs=          # "20 40": it rises from 0 between these epochs; empty: none
train_sub_centres=1           # [>=1] centres per speaker; the nearest counts; 3 for noisy labels
train_top_k=0                 # [>=0] nearest wrong speakers that are made harder; 0: none
train_sample_rate=1.0         # [>0..1] share of speakers per step; below 1 for 100,000s of them
train_batch=400               # [>=1] crops of known speakers per step, all GPUs together
train_utterances=0            # [>=0] of these, crops of each speaker; 0: any
train_speeds=                 # "0.9 1.1": speakers played so are others; empty: none
train_augment="noise=0.2 babble=0.2 reverb=0.2 mask=1"  # how often each: docs/networks.md
train_ranges="noise=0:15 music=5:15 babble=13:20"  # SNRs in dB, and more: docs/networks.md
train_noise=                  # folder or tar of noises, such as musan/noise; empty: made ones
train_music=                  # of music, such as musan/music; empty: none
train_babble=                 # of talkers, such as musan/speech; empty: other speakers
train_rirs=                   # rooms' responses: RIRS_NOISES/simulated_rirs; empty: made ones
train_cache=                  # folder to keep decoded sound in; for Opus and others; empty: none
valid_data=                   # speakers to choose the epoch by, like train_data; empty: none
valid_set=                    # or a data set, by its trials if it has some; empty: none
train_held_out=0              # [>=0] or so many speakers of the training data, not learnt
test_data=                    # other speakers, for the card's figures only
. ./utils/parse_options.sh
. ./utils/training.sh speaker "--modalities speaker --speaker-embedder"
set_folders
# shellcheck disable=SC2086,SC2154  # lists of words; what utils/training.sh sets
$launch "$output/log/train.log" "${python[@]}" steps_speaker/train_embedder.py "${training[@]}" \
  --train-data "${train_folders[@]}" --unlabelled "${unlabelled_folders[@]}" \
  --unlabelled-batch "$train_unlabelled_batch" --features "$train_features" --crop-s "$train_crop_s" \
  --embedding-size "$train_embedding_size" --loss "$train_loss" --scale "$train_scale" --margin "$train_margin" \
  --margin-epochs $train_margin_epochs --sub-centres "$train_sub_centres" --sample-rate "$train_sample_rate" \
  --top-k "$train_top_k" --utterances "$train_utterances" --speeds $train_speeds --augment "$train_augment" \
  --ranges "$train_ranges" --noise "$train_noise" --music "$train_music" --babble "$train_babble" \
  --rooms "$train_rirs" --cache "$train_cache" --valid-data "${valid_folders[@]}" \
  --held-out "$train_held_out" --test-data "${test_folders[@]}" "${teaching[@]}"
echo "$output/$train_name.yaml"
