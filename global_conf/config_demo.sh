# shellcheck shell=bash disable=SC2034
# The small corpus that run_demo.sh makes itself: every stage in some minutes, with the small network.
corpora=demo
trial_sets="demo_dev_enroll:demo_dev_test demo_eval_enroll:demo_eval_test"
embedder=mobilefacenet_casia_pytorch
contact_sheet=true
model_dir=${VIDPERSON_SHARED:-../shared}/models  # looked in before downloading
