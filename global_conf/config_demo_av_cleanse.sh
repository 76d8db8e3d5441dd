# shellcheck shell=bash disable=SC2034
# Which rows of the training list of config_demo_av.sh are wrong? For run_015_cleanse_list.sh.
train_sets=vox2_train
