# shellcheck shell=bash disable=SC2034
# ArcFace, ResNet-50 trained on WebFace600K.
embedder=arcface_w600k_r50
