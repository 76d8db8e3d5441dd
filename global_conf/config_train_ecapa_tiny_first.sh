# shellcheck shell=bash disable=SC2034
# The small network for voices that ships as vidperson/zoo/ecapa_tiny, the first of two trainings.
# It imitates Resemblyzer. config_train_ecapa_tiny.sh starts from its weights.
# For run_012_train_speaker_embedder.sh; get its teacher first:
#   ./run_000_get_pretrained_models.sh --modalities speaker --speaker-embedder resemblyzer_dvector \
#     --model-dir "$VIDPERSON_SHARED/models/speaker"
# Folders of speakers, sound of 16 kHz; where each is from: SOURCES.txt beside them.
train_name=ecapa_tiny_first
train_data=
for corpus in accent_archive audiomnist_az dspspeech20 emodb emospeech_in hyke librispeech_tc100 \
  urdu; do
  train_data="$train_data ${VIDPERSON_SHARED:-../shared}/data/speech_train/$corpus"
done
unset corpus
train_held_out=83         # speakers who choose the epoch
test_data="${VIDPERSON_SHARED:-../shared}/data/speech/librispeech"
train_cache=exp/speech_cache
train_architecture=resnet18_w16_tstp
train_embedding_size=256  # as many as the teacher's
train_crop_s=2.015
train_batch=64
train_speeds="0.9 1.1"
train_augment="noise=0.25 babble=0.2 reverb=0.3 channel=0.4 level=1 mask=1"
train_noise="${VIDPERSON_SHARED:-../shared}/data/speech/noise"
train_ranges="noise=0:15 babble=8:20"
train_loss=arcface
train_margin=0.2
train_margin_epochs="1 14"
train_teacher=resemblyzer_dvector
train_cosine_weight=10
train_relation_weight=100
train_epochs=40
train_optimiser=adamw
train_lr=0.001
train_weight_decay=0.02
train_schedule=cosine
train_warmup_epochs=2
train_ema=0.999
train_clip=5
train_precision=bf16
train_half_weights=true
train_valid_epochs=5
train_save_steps=54       # an epoch
train_gpus=0              # one CPU core: an hour, and half an hour for the second training
train_workers=1
train_threads=1
