# shellcheck shell=bash disable=SC2034
# Networks: ArcFace, ResNet-100 trained on Glint360K, of InsightFace's pack antelopev2.
face_detector=retinaface_mnet025_pytorch
face_embedder=arcface_glint360k_r100
