# shellcheck shell=bash disable=SC2034
# The voice network of config_demo_av.sh, on what is left of the training list: about 170
# utterances of thirty artificial voices.
train_name=demo_av
train_sets=vox2_train_clean
train_held_out=4
train_architecture=ecapa_c128
train_teacher=ecapa_tiny
train_cosine_weight=10
train_relation_weight=10
train_crop_s=1.0
train_batch=32
train_margin=0.1
train_augment="noise=0.3 mask=0.3"
train_epochs=12
train_lr=0.003
train_schedule=cosine
train_warmup_epochs=1
train_valid_epochs=12
train_threads=1
train_workers=0
