# shellcheck shell=bash disable=SC2034
# Your own folders: who of these persons (folder_persons) is in these videos (folder_videos)?
corpora=folder
trial_sets="folder_enroll:folder_test"
embedder=mobilefacenet_casia_pytorch
contact_sheet=true
