# shellcheck shell=bash disable=SC2034
# The small network that ships as vidperson/zoo/ecapa_tiny. It learns 799 speakers at three speeds,
# and imitates Resemblyzer. For run_012_train_speaker_embedder.sh; get its teacher first:
#   ./run_000_get_pretrained_models.sh --modalities speaker --speaker-embedder resemblyzer_dvector \
#     --model-dir "$VIDPERSON_SHARED/models/speaker"
# Folders of speakers, sound of 16 kHz; where each is from: SOURCES.txt beside them.
train_name=ecapa_tiny
train_data=
for corpus in accent_archive audiomnist_az dspspeech20 emodb emospeech_in hyke librispeech_tc100 \
  urdu; do
  train_data="$train_data ${VIDPERSON_SHARED:-../shared}/data/speech_train/$corpus"
done
unset corpus
train_held_out=40         # speakers who choose the epoch
test_data="${VIDPERSON_SHARED:-../shared}/data/speech/librispeech"
train_cache=exp/speech_cache
train_architecture=ecapa_cnn_c192
train_embedding_size=256  # as many as the teacher's
train_crop_s=2.015
train_batch=256
train_speeds="0.9 1.1"
train_augment="noise=0.25 babble=0.2 reverb=0.3 channel=0.4 level=1 mask=1"
train_noise="${VIDPERSON_SHARED:-../shared}/data/speech/noise"
train_babble_snr="8 20"
train_loss=arcface
train_margin_epochs="1 16"
train_margin=0.2
train_teacher=resemblyzer_dvector
train_cosine_weight=4
train_relation_weight=40
train_epochs=52
train_optimiser=adamw
train_lr=0.002
train_weight_decay=0.02
train_schedule=cosine
train_warmup_epochs=4
train_ema=0.998
train_clip=20
train_precision=bf16
train_half_weights=true
train_valid_epochs=13
train_workers=15
train_threads=1
train_gpus=1
