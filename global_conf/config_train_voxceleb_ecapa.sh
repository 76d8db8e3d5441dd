# shellcheck shell=bash disable=SC2034
# ECAPA-TDNN (C 1024) for VoxCeleb2, as AVCleanse trains it: one of five changes per crop, AAM with
# margin 0.2 and scale 30, Adam at 0.001 times 0.97 an epoch. For run_012_train_speaker_embedder.sh:
#   ./run_001_prepare_data.sh --corpora voxceleb --voxceleb2-dir ... --voxceleb1-dir ...
#   ./run_012_train_speaker_embedder.sh --config-file global_conf/config_train_voxceleb_ecapa.sh \
#     --train-noise musan/noise --train-music musan/music --train-babble musan/speech \
#     --train-rirs RIRS_NOISES/simulated_rirs --train-gpus 1
# The original adds each of 3 to 8 talkers at 13 to 20 dB, so all together at about 4 to 15 dB.
train_name=voxceleb_ecapa
train_sets=vox2_train           # or vox2_train_clean, without what is noisy
train_architecture=ecapa_c1024
train_features=logmel
train_crop_s=2.015
train_loss=arcface
train_scale=30
train_margin=0.2
train_batch=400
train_augment="noise=0.2 music=0.2 babble=0.2 reverb=0.2 mask=1"
train_ranges="noise=0:15 music=5:15 babble=4:15 talkers=3:8 frames=0:19 bins=0:7"
valid_set=vox1_o_cleaned
train_epochs=100
train_optimiser=adam
train_lr=0.001
train_weight_decay=0.00002
train_schedule=step
train_decay=0.97
train_decay_epochs=1
train_precision=bf16
train_workers=12
train_threads=1
