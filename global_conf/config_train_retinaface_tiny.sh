# shellcheck shell=bash disable=SC2034
# The small detector that ships as vidperson/zoo/retinaface_tiny: the last of three runs, from the weights of the second. Dark
# pictures, motion blur, and faces that the picture's edge cuts, as clips have them and photos hardly.
. ./global_conf/config_train_retinaface_tiny_second.sh
train_name=retinaface_tiny
train_init=exp/face_detector/retinaface_tiny_second/best.pt
train_augment="mosaic=0.1 mirror=0.5 aim=0.7 cut=0.25 zoom=0.6 colour=0.3 grey=0.05 blur=0.05 motion=0.1 dark=0.15 jpeg=0.2"
train_epochs=100
train_lr=0.006
train_valid_epochs=50
train_match_scores=1.01                              # as sure as its teacher, and a little surer, to find what it finds
