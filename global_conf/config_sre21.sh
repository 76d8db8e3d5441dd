# shellcheck shell=bash disable=SC2034
# NIST SRE21, visual track: persons enrolled by a selfie. Set sre21_dev_dir and sre21_eval_dir, here or on the command line.
corpora=sre21_av_v
trial_sets="sre21_av_v_dev_enroll:sre21_av_v_dev_test sre21_av_v_eval_enroll:sre21_av_v_eval_test"
embedder=arcface_glint360k_r100
priors="0.01 0.05"
primary_cost=sre21                # the mean of the costs at both, the partitions of the trials weighing equally
