# shellcheck shell=bash disable=SC2034
# The identifier of config_demo_clips.sh: the layers of the challenge, on forty clips of ten persons.
train_name=demo_clips
train_sets=clips_train
valid_set=clips_valid
train_architecture=original
train_epochs=20
train_threads=1
