# shellcheck shell=bash disable=SC2034
# The face network of the VoxCeleb recipe (AVCleanse, V-Vox2): iResNet-18 on VoxCeleb2, one random
# frame of each utterance per epoch. For run_010_train_face_embedder.sh, after
#   ./run_001_prepare_data.sh --config-file global_conf/config_voxceleb.sh \
#     --voxceleb2-dir /corpora/VoxCeleb2
# Evaluate with five frames of each utterance, and the mean of the 5 x 5 cosines:
#   ./run_002_detect_faces.sh --config-file global_conf/config_voxceleb.sh --aligned-faces 5
#   ./run_004_score.sh --config-file global_conf/config_voxceleb.sh --backends mean-cosine
train_name=iresnet18_vox2
train_sets=vox2_train_clean
train_architecture=iresnet18   # loss and schedule are the defaults: s 64, m 0.4; 0.001 x 0.97
train_augment="mirror=0.5 gauss=1 grey=0.2"
train_weight_decay=0.00002
train_epochs=100
train_gpus=1
train_precision=bf16
