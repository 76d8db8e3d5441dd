# shellcheck shell=bash disable=SC2034
# The small embedder that ships as vidperson/zoo/arcface_tiny. It imitates MobileFaceNet and is
# validated on LFW View 1. For run_010_train_face_embedder.sh; get its teacher first:
#   ./run_000_get_pretrained_models.sh --face-detector '' \
#     --face-embedder mobilefacenet_arcface_mxnet
# The network that ships was trained with --train-gpus 1 --train-workers 1.
# Of the unlabelled photos the faces of stage 2 are taken, each photo as an identity of its own:
#   mkdir -p data/photos
#   for kind in single groups; do
#     tar -xf "$VIDPERSON_SHARED/data/photos/unlabelled_$kind.tar" -C data/photos
#   done
#   (cd data/photos && ls -d "$PWD"/{groups,single}/*.jpg) |
#     awk -F/ '{print $(NF-1) "_" substr($NF, 1, length($NF) - 4), $0}' >data/photos/vid.scp
#   awk '{print $1, $1}' data/photos/vid.scp | tee data/photos/utt2spk >data/photos/spk2utt
#   ./run_000_get_pretrained_models.sh --face-detector retinaface_mnet025_pytorch \
#     --face-embedder ''
#   ./run_002_detect_faces.sh --trial-sets photos:photos --det-fallback always \
#     --face-detector retinaface_mnet025_pytorch
train_name=arcface_tiny
train_data=${VIDPERSON_SHARED:-../shared}/data/faces/train_pins105.tar
train_data+=" ${VIDPERSON_SHARED:-../shared}/data/faces/train_celebs.tar"
train_data+=" ${VIDPERSON_SHARED:-../shared}/data/faces/train_celeba10k.tar"
train_data+=" ${VIDPERSON_SHARED:-../shared}/data/faces/train_bollywood100.tar"
train_data+=" exp/face_det/retinaface_mnet025_pytorch/photos/crops.tar:data/photos/utt2spk"
train_architecture=small_resnet
train_embedding_size=128
train_loss=none        # little data: the teacher tells more than the names of 28,000 crops
train_augment="mirror=0.5 jitter=0.5 colour=0.5 grey=0.1 blur=0.15"
train_augment+=" scale=0.25 jpeg=0.2 cutout=0.3 mix=0.6"
train_batch=256
train_epochs=25
train_optimiser=muon
train_lr=0.01
train_weight_decay=0.05
train_schedule=cosine
train_warmup_epochs=1
train_clip=10
train_ema=0.999
train_precision=bf16
train_teacher=mobilefacenet_arcface_mxnet
train_cosine_weight=1
train_relation_weight=4
train_half_weights=true
train_valid_epochs=5
train_threads=1         # one free core is better than two shared ones
train_workers=0
valid_pictures=${VIDPERSON_SHARED:-../shared}/data/faces/lfw_view1_aligned.tar
valid_pairs=${VIDPERSON_SHARED:-../shared}/data/faces/lfw_pairsDevTrain.txt
test_pairs=${VIDPERSON_SHARED:-../shared}/data/faces/lfw_pairsDevTest.txt
