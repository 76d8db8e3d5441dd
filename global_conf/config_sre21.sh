# shellcheck shell=bash disable=SC2034
# Corpus: NIST SRE21, visual track; a selfie enrols each person. Set sre21_dev_dir and
# sre21_eval_dir, here or on the command line. With other networks:
#   --config-file global_conf/config_r50.sh,global_conf/config_sre21.sh
corpora=sre21_av_v
trial_sets="sre21_av_v_dev_enroll:sre21_av_v_dev_test sre21_av_v_eval_enroll:sre21_av_v_eval_test"
priors="0.01 0.05"
det_fallback=always  # as in the published recipe: any segment with too few faces
primary_cost=sre21   # the mean of the costs at both; the partitions of the trials weigh equally
