# shellcheck shell=bash disable=SC2034,SC2154
# What the training stages have in common. Sourced after parse_options.sh with the options of stage 0 that get a teacher
# and nothing else, without its name; sets launch (the launcher's name), python (how the step is started), teacher and
# training (options of the step).

if [[ $train_name != [A-Za-z0-9]* || $train_name == */* ]]; then   # else it would be another folder; the step checks the rest
  echo "$0: expected a train_name that begins with a letter or digit and has no '/' in it, found '$train_name'" >&2
  exit 1
fi
teacher=()
if [ -n "$train_teacher" ]; then
  if [ ! -f "$exp_dir/face_models/$train_teacher/record.json" ]; then
    echo "$0: the teacher is not in $exp_dir/face_models/$train_teacher; run ./run_000_get_pretrained_models.sh $1 $train_teacher" >&2
    exit 1
  fi
  teacher=(--teacher "$exp_dir/face_models/$train_teacher")
fi
launch=$cmd
python=(python)
training=(
  --architecture "$train_architecture" --augment "$train_augment" --batch-size "$train_batch" --epochs "$train_epochs"
  --optimiser "$train_optimiser" --lr "$train_lr" --weight-decay "$train_weight_decay" --schedule "$train_schedule"
  --decay "$train_decay" --decay-epochs "$train_decay_epochs" --warmup-epochs "$train_warmup_epochs" --clip "$train_clip"
  --ema "$train_ema" --precision "$train_precision" --seed "$train_seed" --save-steps "$train_save_steps"
  --valid-epochs "$train_valid_epochs"
  --licence "$train_licence" --half-weights "$train_half_weights" --engine "$engine" --threads "$train_threads"
  --workers "$train_workers" --init "$train_init"
)
if ! [[ $train_gpus =~ ^[0-9]+$ && $train_processes =~ ^[1-9][0-9]*$ ]]; then
  echo "$0: expected whole numbers, train_gpus from 0 and train_processes from 1 on, found '$train_gpus' and '$train_processes'" >&2
  exit 1
fi
if ((train_gpus > 0)); then
  launch=$cuda_cmd
  training+=(--device cuda)
fi
processes=$((train_gpus > 0 ? train_gpus : train_processes))
((processes == 1)) || python+=(-m torch.distributed.run --standalone --nproc-per-node "$processes")
