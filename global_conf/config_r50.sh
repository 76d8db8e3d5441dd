# shellcheck shell=bash disable=SC2034
# RetinaFace with ResNet-50 and ArcFace LResNet50E-IR trained on MS1M: InsightFace's MXNet checkpoints. Their files are put there by hand;
# stage 0 says where.
detector=retinaface_r50_mxnet
embedder=arcface_r50_mxnet
