# shellcheck shell=bash disable=SC2034
# Your own folders: who of these persons (folder_persons) is in these videos (folder_videos)?
corpora=folder
trial_sets="folder_enroll:folder_test"
detector=retinaface_tiny
embedder=arcface_tiny
contact_sheet=true
