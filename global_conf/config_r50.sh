# shellcheck shell=bash disable=SC2034
# Networks: RetinaFace-R50 and ArcFace LResNet50E-IR trained on MS1M. These are InsightFace's MXNet
# checkpoints. Download their files yourself; stage 0 says where to put them.
face_detector=retinaface_r50_mxnet
face_embedder=arcface_r50_mxnet
