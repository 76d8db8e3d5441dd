# shellcheck shell=bash disable=SC2034
# The small network for voices that ships as vidperson/zoo/ecapa_tiny, the second training, from the
# weights of the first. The steps are smaller, and the margin grows sooner.
. ./global_conf/config_train_ecapa_tiny_first.sh
train_name=ecapa_tiny
train_init=exp/speaker_train/ecapa_tiny_first/best.pt
train_epochs=20
train_lr=0.0006
train_margin_epochs="0 3"
train_warmup_epochs=1
