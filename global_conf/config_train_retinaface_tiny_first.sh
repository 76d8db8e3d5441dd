# shellcheck shell=bash disable=SC2034
# The small detector that ships as vidperson/zoo/retinaface_tiny, the first of two trainings. It
# imitates RetinaFace on unlabelled photos. config_train_retinaface_tiny.sh starts from its weights.
# For run_011_train_face_detector.sh; get its teacher first:
#   ./run_000_get_pretrained_models.sh --face-embedder '' \
#     --face-detector retinaface_mnet025_pytorch
train_name=retinaface_tiny_first
train_data=${VIDPERSON_SHARED:-../shared}/data/photos/unlabelled_single.tar
train_data+=" ${VIDPERSON_SHARED:-../shared}/data/photos/unlabelled_groups.tar"
train_held_out=300
test_data=${VIDPERSON_SHARED:-../shared}/data/faces/lfw_view1_photos.tar  # they choose nothing
train_architecture=retinaface_tiny
train_augment="mosaic=0.2 mirror=0.5 aim=0.7 zoom=0.8 colour=0.4 grey=0.1 blur=0.1 jpeg=0.2"
train_sizes="96 96 128 128 128 128 160 160 160 160 192 192 192 256 256 320"
train_batch=16
train_epochs=140
train_optimiser=muon
train_lr=0.01
train_weight_decay=0.02
train_schedule=cosine
train_warmup_epochs=1
train_clip=10
train_ema=0.999
train_precision=bf16
train_teacher=retinaface_mnet025_pytorch
train_valid_epochs=35
train_half_weights=true
train_threads=1
train_processes=2  # one per core
train_workers=0
