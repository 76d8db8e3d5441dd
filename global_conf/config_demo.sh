# shellcheck shell=bash disable=SC2034
# The small corpus that run_demo.sh makes: every stage in some minutes, with the small networks.
corpora=demo
trial_sets="demo_dev_enroll:demo_dev_test demo_eval_enroll:demo_eval_test"
face_detector=retinaface_tiny
face_embedder=arcface_tiny
contact_sheet=true
backends="max ahc xatt track"
calibration_set=demo_dev_test
fusion_systems="max ahc xatt"
