# shellcheck shell=bash disable=SC2034
# A small corpus of clips in folders that run_demo.sh makes: who of ten persons is in which clip?
# Every stage in some minutes, with the small networks. It trains the identifier demo_clips.
demo_stages="0 1 2 3 14:train_demo_clips 4 5"
corpora=demo_clips
clips_valid=0.2
trial_sets="clips_train:clips_valid clips_train+clips_valid:clips_test"
face_detector=retinaface_tiny
face_embedder=arcface_tiny
fps=2
contact_sheet=true
search_backends="class-mean class-mean-whitened"
identifiers=demo_clips
search_fusion="class-mean-whitened demo_clips"
calibration_set=clips_valid
