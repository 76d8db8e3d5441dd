# shellcheck shell=bash disable=SC2034
# Networks: MobileFaceNet trained on CASIA-WebFace, small and fast.
face_detector=retinaface_mnet025_pytorch
face_embedder=mobilefacenet_casia_pytorch
