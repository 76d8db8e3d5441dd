# shellcheck shell=bash disable=SC2034
# The body embedder of config_demo_cast.sh, on 135 crops of sixteen persons.
train_name=demo_cast
train_sets=csm_train_candidates
valid_set=csm_val_candidates
train_architecture=small_person
train_batch=32
train_epochs=12
train_lr=0.003
train_schedule=cosine
train_warmup_epochs=1
train_valid_epochs=12
train_threads=1
train_workers=0
