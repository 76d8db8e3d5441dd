# shellcheck shell=bash disable=SC2034
# The identifier of config_demo_clips.sh, on forty clips of ten persons.
train_name=demo_clips
train_sets=clips_train
valid_set=clips_valid
train_batch=16
train_epochs=10
train_threads=1
