# shellcheck shell=bash disable=SC2034
# ArcFace, ResNet-100 trained on Glint360K: of InsightFace's pack antelopev2.
embedder=arcface_glint360k_r100
