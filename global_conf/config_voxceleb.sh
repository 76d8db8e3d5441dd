# shellcheck shell=bash disable=SC2034
# VoxCeleb1 (voxceleb1_dir): is it the same person in two utterances? By the aligned faces. These are
# the original lists, as AVCleanse has them. With the cleaned ones, give
#   --trial-sets "vox1_o_cleaned:vox1_o_cleaned"
corpora=voxceleb
trial_sets="vox1_o_original:vox1_o_original vox1_e_original:vox1_e_original"
trial_sets+=" vox1_h_original:vox1_h_original"
face_detector=retinaface_tiny   # only names the folder of results: the faces are aligned already
face_embedder=arcface_tiny
