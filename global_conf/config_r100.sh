# shellcheck shell=bash disable=SC2034
# RetinaFace with ResNet-50 and ArcFace LResNet100E-IR trained on MS1MV2: InsightFace's MXNet checkpoints, as the published recipe has
# them.
detector=retinaface_r50_mxnet
embedder=arcface_r100_mxnet
