# shellcheck shell=bash disable=SC2034
# Your own clips: which of these persons (clips_persons) is in which of these videos (clips_search)?
# Better with videos of other people, too (clips_strangers). To validate and calibrate, hold some back:
#   --clips-valid 0.3 --calibration-set clips_valid \
#   --trial-sets "clips_train:clips_valid clips_train+clips_valid:clips_test"
# With larger networks:
#   --config-file global_conf/config_clips.sh,global_conf/config_w600k_r50.sh
corpora=clips
trial_sets="clips_train:clips_test"
face_detector=retinaface_tiny
face_embedder=arcface_tiny
fps=2.0
second_look=40   # frames of a clip up to 20 s to search where none of the first shows a sure face
