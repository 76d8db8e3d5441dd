# shellcheck shell=bash disable=SC2034
# Networks: RetinaFace-R50 and ArcFace LResNet100E-IR trained on MS1MV2. These are InsightFace's
# MXNet checkpoints, as in the published recipe.
face_detector=retinaface_r50_mxnet
face_embedder=arcface_r100_mxnet
