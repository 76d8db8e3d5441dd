# shellcheck shell=bash disable=SC2034
# A small embedder for CPUs, taught by MobileFaceNet as well as by names; LFW View 1 tells how good it is.
train_name=tiny
train_data=${VIDPERSON_SHARED:-../shared}/data/faces/train_pins105.tar
train_data+=" ${VIDPERSON_SHARED:-../shared}/data/faces/train_celebs.tar"
train_data+=" ${VIDPERSON_SHARED:-../shared}/data/faces/train_celeba10k.tar"
train_data+=" ${VIDPERSON_SHARED:-../shared}/data/faces/train_bollywood100.tar"
train_architecture=small_resnet
train_embedding_size=128
train_scale=32
train_margin=0.2
train_augment="mirror=0.5 jitter=0.3 colour=0.3 grey=0.1 blur=0.1 scale=0.1 jpeg=0.1 cutout=0.1"
train_batch=128
train_epochs=20
train_optimiser=adamw
train_lr=0.002
train_weight_decay=0.05
train_schedule=cosine
train_warmup_epochs=0.5
train_clip=5
train_ema=0.99
train_precision=bf16
train_teacher=mobilefacenet_casia_pytorch
train_cosine_weight=10
train_relation_weight=20
train_workers=1
valid_pictures=${VIDPERSON_SHARED:-../shared}/data/faces/lfw_view1_aligned.tar
valid_pairs=${VIDPERSON_SHARED:-../shared}/data/faces/lfw_pairsDevTest.txt
valid_threshold_pairs=${VIDPERSON_SHARED:-../shared}/data/faces/lfw_pairsDevTrain.txt
embedder=mobilefacenet_casia_pytorch                 # the teacher, for stage 0
model_dir=${VIDPERSON_SHARED:-../shared}/models      # looked in before downloading
