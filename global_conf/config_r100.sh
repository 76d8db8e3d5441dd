# shellcheck shell=bash disable=SC2034
# ArcFace LResNet100E-IR trained on MS1MV2: InsightFace's MXNet checkpoint.
embedder=arcface_r100_mxnet
