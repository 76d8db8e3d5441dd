# shellcheck shell=bash disable=SC2034
# The identifier of config_demo_clips.sh, in small: ten persons, fifty clips.
train_name=demo_clips
train_sets=clips_train
valid_set=clips_valid
train_epochs=20
train_threads=1
