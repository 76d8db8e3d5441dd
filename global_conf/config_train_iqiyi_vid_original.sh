# shellcheck shell=bash disable=SC2034
# The identifier of the iQIYI-VID challenge (deepinx/iqiyi-vid-challenge), to compare others with.
# For run_014_train_identifier.sh. There both sets are learnt, and the last epoch is kept. Give
# --train-sets "iqiyi_vid_train iqiyi_vid_val" --valid-set "" for that.
train_name=iqiyi_vid_original
train_sets=iqiyi_vid_train
valid_set=iqiyi_vid_val
train_architecture=original
train_loss=softmax
train_score=log-probability
train_items="all=1"
train_batch=1024
train_optimiser=sgd
train_lr=0.2
train_weight_decay=0.0005
train_schedule=step
train_decay=0.1
train_decay_epochs="30 35"
train_epochs=40
