# shellcheck shell=bash disable=SC2034
# The films that config_demo_cast.sh trains on, for stage 2: their persons are cut out.
modalities=body
trial_sets="csm_train_cast:csm_train_candidates"
