# shellcheck shell=bash disable=SC2034
# ArcFace LResNet50E-IR trained on MS1M: InsightFace's MXNet checkpoint. Its files are put there by hand; stage 0 says where.
embedder=arcface_r50_mxnet
