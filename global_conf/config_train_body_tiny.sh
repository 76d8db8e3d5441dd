# shellcheck shell=bash disable=SC2034
# The small network that ships as vidperson/zoo/body_tiny. It imitates a network of the Open Model
# Zoo. For run_013_train_body_embedder.sh; get its teacher and the person detector first:
#   ./run_000_get_pretrained_models.sh --modalities body --body-detector yolox_nano_onnx \
#     --body-embedder omz_person_reidentification_0277
# market100: every second person is learnt from, the others are measured on:
#   for id in $(ls "$VIDPERSON_SHARED/data/person/market100/gallery" | cut -c1-4 | sort -u); do
#     part=$([ "${part-test}" = test ] && echo train || echo test)
#     mkdir -p data/market100_$part
#     ln -s "$VIDPERSON_SHARED/data/person/market100/gallery/${id}"_* data/market100_$part
#   done
# Of the unlabelled photos the persons of stage 2 are taken:
#   mkdir -p data/photos
#   for kind in single groups; do
#     tar -xf "$VIDPERSON_SHARED/data/photos/unlabelled_$kind.tar" -C data/photos
#   done
#   (cd data/photos && ls -d "$PWD"/{groups,single}/*.jpg) |
#     awk -F/ '{print $(NF-1) "_" substr($NF, 1, length($NF) - 4), $0}' >data/photos/vid.scp
#   awk '{print $1, $1}' data/photos/vid.scp | tee data/photos/utt2spk >data/photos/spk2utt
#   ./run_002_detect_faces.sh --modalities body --body-detector yolox_nano_onnx \
#     --trial-sets photos:photos
train_name=body_tiny
body_detector=yolox_nano_onnx
train_data=data/market100_train
train_held_out=10       # persons of it who choose the epoch
test_data=data/market100_test
train_unlabelled="${VIDPERSON_SHARED:-../shared}/data/person/inria_unlabelled.tar data/photos"
train_architecture=small_person
train_loss=none         # little data: the teacher tells more than the names of 40 persons
train_triplet_weight=0
train_images=0
train_batch=48
train_unlabelled_batch=80
train_augment="mirror=0.5 jitter=0.5 pad=0.5 recolour=0.5 colour=0.5 blur=0.1 scale=0.2 erase=0.3"
train_epochs=22
train_optimiser=muon
train_lr=0.02
train_weight_decay=0.05
train_schedule=cosine
train_warmup_epochs=2
train_clip=10
train_ema=0.98
train_precision=bf16
train_teacher=omz_person_reidentification_0277
train_cosine_weight=1
train_relation_weight=4
train_half_weights=true
train_valid_epochs=11
train_threads=1         # one free core is better than two shared ones
train_workers=0
