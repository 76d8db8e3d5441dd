# shellcheck shell=bash disable=SC2034
# ArcFace, ResNet-50 trained on WebFace600K: of InsightFace's pack buffalo_l.
embedder=arcface_w600k_r50
