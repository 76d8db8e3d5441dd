# shellcheck shell=bash disable=SC2034
# The training list of config_demo_av.sh, for stages 2 and 3.
trial_sets="vox2_train:vox2_train"
