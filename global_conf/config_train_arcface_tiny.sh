# shellcheck shell=bash disable=SC2034
# The small embedder that ships as vidperson/zoo/arcface_tiny. It imitates MobileFaceNet and is
# validated on LFW View 1. For run_010_train_face_embedder.sh; get its teacher first:
#   ./run_000_get_pretrained_models.sh --face-detector '' \
#     --face-embedder mobilefacenet_arcface_mxnet
train_name=arcface_tiny
train_data=${VIDPERSON_SHARED:-../shared}/data/faces/train_pins105.tar
train_data+=" ${VIDPERSON_SHARED:-../shared}/data/faces/train_celebs.tar"
train_data+=" ${VIDPERSON_SHARED:-../shared}/data/faces/train_celeba10k.tar"
train_data+=" ${VIDPERSON_SHARED:-../shared}/data/faces/train_bollywood100.tar"
train_architecture=small_resnet
train_embedding_size=128
train_loss=none        # little data: the teacher tells more than the names of 25,000 crops
train_augment="mirror=0.5 jitter=0.5 colour=0.5 grey=0.1 blur=0.15"
train_augment+=" scale=0.2 jpeg=0.2 cutout=0.2 mix=0.4"
train_batch=64
train_epochs=18
train_optimiser=adamw
train_lr=0.002
train_weight_decay=0.05
train_schedule=cosine
train_warmup_epochs=0.5
train_clip=5
train_ema=0.999
train_precision=bf16
train_teacher=mobilefacenet_arcface_mxnet
train_cosine_weight=1
train_relation_weight=4
train_half_weights=true
train_threads=1         # one free core is better than two shared ones
train_workers=0
valid_pictures=${VIDPERSON_SHARED:-../shared}/data/faces/lfw_view1_aligned.tar
valid_pairs=${VIDPERSON_SHARED:-../shared}/data/faces/lfw_pairsDevTrain.txt
test_pairs=${VIDPERSON_SHARED:-../shared}/data/faces/lfw_pairsDevTest.txt
