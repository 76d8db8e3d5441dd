# shellcheck shell=bash disable=SC2034
# Networks: ArcFace, ResNet-50 trained on WebFace600K, of InsightFace's pack buffalo_l.
face_detector=retinaface_mnet025_pytorch
face_embedder=arcface_w600k_r50
