# shellcheck shell=bash disable=SC2034
# The body embedder of config_demo_cast.sh, on 136 crops of sixteen persons.
train_name=demo_cast
train_sets=csm_train_candidates
valid_set=csm_val_candidates
train_epochs=10
train_threads=1
train_workers=0
