# shellcheck shell=bash disable=SC2034
# The small detector that ships as vidperson/zoo/retinaface_tiny, the second training, from the
# weights of the first. Large faces are more frequent, and photos are changed less.
. ./global_conf/config_train_retinaface_tiny_first.sh
train_name=retinaface_tiny
train_init=exp/face_train/retinaface_tiny_first/best.pt
train_augment="mosaic=0.1 mirror=0.5 aim=0.6 zoom=0.6 colour=0.3 grey=0.05 blur=0.05 jpeg=0.2"
train_sizes="128 128 128 128 160 160 160 160 192 192 192 224 256 256 320 384"
train_epochs=180
train_lr=0.008
