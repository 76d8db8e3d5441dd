# shellcheck shell=bash disable=SC2034
# Your own talking videos (talking_test): are two videos of the same person? With larger networks:
#   --config-file global_conf/config_talking.sh,global_conf/config_w600k_r50.sh
corpora=talking
trial_sets="talking_test:talking_test"
face_detector=retinaface_tiny
face_embedder=arcface_tiny
