# shellcheck shell=bash disable=SC2034
# MobileFaceNet trained on CASIA-WebFace: small and quick.
embedder=mobilefacenet_casia_pytorch
