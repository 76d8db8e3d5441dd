#!/usr/bin/env bash
# Train a face embedding network; export the best epoch's to ONNX with a model card.
#
# Reads:  train_data; valid_pictures and valid_pairs; exp/face_models/<teacher> if there is one
# Writes: exp/face_embedder/<train_name>/ with <train_name>.onnx, <train_name>.yaml, checkpoints, log.jsonl, curves.png
#         Killed and run again it goes on from its last checkpoint. To use the network in the other stages:
#         ./run_000_get_pretrained_models.sh --embedder exp/face_embedder/<train_name>/<train_name>.yaml
#
#   ./run_010_train_face_embedder.sh --train-name r18 --train-data /corpora/voxceleb2 --train-gpus 1 --train-precision bf16
#   ./run_010_train_face_embedder.sh --config-file global_conf/config_train_tiny.sh
set -euo pipefail
[ -f path.sh ] || { echo "$0: run the recipe's scripts from the repository root" >&2; exit 1; }
. ./cmd.sh
. ./utils/parse_options.sh
export VIDPERSON_EXTRAS="${VIDPERSON_EXTRAS:-} torch"
. ./path.sh

output=$exp_dir/face_embedder/$train_name
teacher=()
if [ -n "$train_teacher" ]; then
  if [ ! -f "$exp_dir/face_models/$train_teacher/installed.json" ]; then
    echo "$0: the teacher is not in $exp_dir/face_models/$train_teacher; run ./run_000_get_pretrained_models.sh --embedder $train_teacher" >&2
    exit 1
  fi
  teacher=(--teacher "$exp_dir/face_models/$train_teacher" --cosine-weight "$train_cosine_weight" --relation-weight "$train_relation_weight")
fi
launcher=$cmd
train_device=cpu
python=(python)
if ((train_gpus > 0)); then
  launcher=$cuda_cmd
  train_device=cuda
  ((train_gpus == 1)) || python+=(-m torch.distributed.run --standalone --nproc-per-node "$train_gpus")
fi

save_settings "$output/config"
# shellcheck disable=SC2086  # train_data is a list of words
$launcher "$output/log/train.log" "${python[@]}" steps_face/train_embedder.py --train-data $train_data --output-dir "$output" \
  --architecture "$train_architecture" --embedding-size "$train_embedding_size" --loss "$train_loss" \
  --scale "$train_scale" --margin "$train_margin" --sub-centres "$train_sub_centres" --sample-rate "$train_sample_rate" \
  --augment "$train_augment" --batch-size "$train_batch" --epochs "$train_epochs" --optimiser "$train_optimiser" \
  --lr "$train_lr" --weight-decay "$train_weight_decay" --schedule "$train_schedule" --decay "$train_decay" \
  --decay-epochs "$train_decay_epochs" --warmup-epochs "$train_warmup_epochs" --clip "$train_clip" --ema "$train_ema" \
  --precision "$train_precision" --seed "$train_seed" --save-steps "$train_save_steps" --licence "$train_licence" \
  --valid-pictures "$valid_pictures" --valid-pairs "$valid_pairs" --valid-threshold-pairs "$valid_threshold_pairs" \
  --device "$train_device" --engine "$engine" --threads "$train_threads" --workers "$train_workers" "${teacher[@]}"
echo "$output/$train_name.yaml"
