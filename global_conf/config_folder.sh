# shellcheck shell=bash disable=SC2034
# Your own folders: who of these persons (folder_persons) is in these videos (folder_videos), and when?
# ./run_who.sh PERSONS VIDEOS runs all stages with it. With larger networks:
#   --config-file global_conf/config_folder.sh,global_conf/config_w600k_r50.sh
corpora=folder
trial_sets="folder_enroll:folder_test"
find_persons=true
fps=5.0
face_detector=retinaface_tiny
face_embedder=arcface_tiny
speaker_detector=energy      # of --modalities "face speaker": who talks when, 2 s at a time
speaker_window_s=2.0
