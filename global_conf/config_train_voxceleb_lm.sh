# shellcheck shell=bash disable=SC2034
# Large-margin fine-tuning (Thienpondt et al., ICASSP 2021) of config_train_voxceleb_resnet34.sh:
# crops of 6 s, margin 0.5, five epochs, no other speeds. It starts from the network and from the
# centres of the speakers. For run_012_train_speaker_embedder.sh; folders as there.
train_name=voxceleb_resnet34_lm
train_init=exp/speaker_train/voxceleb_resnet34/best.pt
train_sets=vox2_train
train_architecture=resnet34_tstp
train_embedding_size=256
train_features=kaldi
train_crop_s=6.015
train_loss=arcface
train_scale=32
train_margin=0.5
train_sub_centres=3
train_augment="noise=0.1 music=0.1 babble=0.1 reverb=0.3"
train_ranges="noise=0:15 music=5:15 babble=10:30 talkers=1:1"
train_batch=128
valid_set=vox1_o_cleaned
train_epochs=5
train_average=1                 # the last epoch
train_optimiser=sgd
train_lr=0.0001
train_weight_decay=0.0001
train_schedule=step
train_decay=0.758               # down to a quarter
train_decay_epochs=1
train_warmup_epochs=1
train_precision=bf16
train_workers=16
train_threads=1
