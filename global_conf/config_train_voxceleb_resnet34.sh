# shellcheck shell=bash disable=SC2034
# ResNet34 for VoxCeleb2, as WeSpeaker trains it: SGD from 0.1 down to 0.00005, a margin that rises
# from epoch 20 to 40, three sub-centres, the five nearest wrong speakers made harder, each speaker
# at three speeds. For run_012_train_speaker_embedder.sh; folders of noise and rooms as in
# config_train_voxceleb_ecapa.sh. Then fine-tune it: config_train_voxceleb_lm.sh.
train_name=voxceleb_resnet34
train_sets=vox2_train
train_architecture=resnet34_tstp
train_embedding_size=256
train_features=kaldi
train_crop_s=2.015              # 200 frames
train_loss=arcface
train_scale=32
train_margin=0.2
train_margin_epochs="20 40"
train_sub_centres=3
train_top_k=5
train_speeds="0.9 1.1"
train_augment="noise=0.1 music=0.1 babble=0.1 reverb=0.3"
train_ranges="noise=0:15 music=5:15 babble=10:30 talkers=1:1"
train_batch=256
valid_set=vox1_o_cleaned
train_epochs=150
train_average=10
train_optimiser=sgd
train_lr=0.1
train_weight_decay=0.0001
train_schedule=step
train_decay=0.9506              # 0.1 * 0.9506^150 = 0.00005
train_decay_epochs=1
train_warmup_epochs=6
train_precision=bf16
train_workers=16
train_threads=1
