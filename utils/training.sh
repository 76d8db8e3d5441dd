# shellcheck shell=bash disable=SC2034,SC2154  # of utils/parse_options.sh, and for the script
# What the training stages share. Sourced after utils/parse_options.sh, with the modality and, where
# there may be a teacher, the options of stage 0 that get it and no other network:
#
#   . ./utils/training.sh face "--face-detector '' --face-embedder"
#
# Sources path.sh with the torch extra. Sets `output` (folder of the training), `launch` (launcher),
# `python` (how the step is started) and `training` (options of the step, --teacher included) and
# `teaching` (those of embedders, how a teacher is imitated); and defines set_folders, and
# set_options, for trainings on what stages 2 and 3 made. An option that takes several paths may be
# one path with spaces in it.

if [ ! -f "steps_$1/modality.sh" ]; then
  valid=$(echo steps_*/modality.sh)
  valid=${valid//steps_/}
  echo "$0: train_modality: expected one of ${valid//\/modality.sh/}, found '$1'" >&2
  exit 1
fi
if [[ ! $train_name =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]]; then   # as a card has it; a folder
  echo "$0: train_name: expected letters, digits, '.', '_' and '-', the first a letter or digit," \
    "found '$train_name'" >&2
  exit 1
fi
output=$exp_dir/${1}_train/$train_name
launch=$cmd
python=(python)
training=(
  --output-dir "$output" --architecture "$train_architecture"
  --batch-size "$train_batch" --epochs "$train_epochs" --optimiser "$train_optimiser"
  --lr "$train_lr" --weight-decay "$train_weight_decay" --schedule "$train_schedule"
  --decay "$train_decay" --decay-epochs "$train_decay_epochs" --clip "$train_clip"
  --warmup-epochs "$train_warmup_epochs" --ema "$train_ema" --average "$train_average"
  --precision "$train_precision"
  --seed "$train_seed" --save-steps "$train_save_steps" --valid-epochs "$train_valid_epochs"
  --licence "$train_licence" --half-weights "$train_half_weights" --engine "$engine"
  --threads "$train_threads" --workers "$train_workers" --init "$train_init"
)
if [ -n "$train_teacher" ] && [ -z "${2-}" ]; then
  echo "$0: train_teacher: this training has no teacher, found '$train_teacher'" >&2
  exit 1
fi
teachers=()
for name in $train_teacher; do
  teachers+=("$exp_dir/${1}_models/$name")
  if [ ! -f "${teachers[-1]}/record.json" ]; then
    echo "$0: the teacher is not in ${teachers[-1]};" \
      "run ./run_000_get_pretrained_models.sh $2 $name" >&2
    exit 1
  fi
done
if [ ${#teachers[@]} -gt 0 ]; then training+=(--teacher "${teachers[@]}"); fi
# shellcheck disable=SC2206  # a list of words
teaching=(--cosine-weight "$train_cosine_weight" --relation-weight "$train_relation_weight"
  --teacher-weights $train_teacher_weights)
processes=$train_processes
if ((train_gpus > 0)); then
  launch=$cuda_cmd
  processes=$train_gpus
  training+=(--device cuda)
fi
if ((processes > 1)); then
  python+=(-m torch.distributed.run --standalone --nproc-per-node "$processes")
fi
export VIDPERSON_EXTRAS="${VIDPERSON_EXTRAS:-} torch"
. ./path.sh

# Set the array `paths` to those of an option: all of it, where something is there, else its words.
# Arguments: value.
paths_of() {
  paths=("$1")
  # shellcheck disable=SC2206  # a list of words
  [ -e "$1" ] || paths=($1)
}

# Set the arrays `train_folders`, `unlabelled_folders`, `valid_folders` and `test_folders`: what the
# options of these names tell, sets first. Refuses a set that is not there, and nothing to train on.
set_folders() {
  local set paths expected="--train-data"
  train_folders=()
  valid_folders=()
  for set in ${train_sets-} ${valid_set-}; do
    if [ ! -e "$data_dir/$set" ]; then
      echo "$0: $data_dir/$set is not there: make it with ./run_001_prepare_data.sh, or change" \
        "--train-sets or --valid-set" >&2
      exit 1
    fi
  done
  for set in ${train_sets-}; do train_folders+=("$data_dir/$set"); done
  for set in ${valid_set-}; do valid_folders+=("$data_dir/$set"); done
  paths_of "$train_data"
  train_folders+=("${paths[@]}")
  paths_of "${valid_data-}"
  valid_folders+=("${paths[@]}")
  paths_of "${train_unlabelled-}"
  unlabelled_folders=("${paths[@]}")
  paths_of "${test_data-}"
  # shellcheck disable=SC2034  # for the script
  test_folders=("${paths[@]}")
  if [ $((${#train_folders[@]} + ${#unlabelled_folders[@]})) = 0 ]; then
    [ ! -v train_sets ] || expected+=" or --train-sets"
    [ ! -v train_unlabelled ] || expected+=", or --train-unlabelled with a teacher"
    echo "$0: expected something to train on: $expected; see docs/networks.md" >&2
    exit 1
  fi
}

# What a step is told of the sets to train and to validate on: sets the array `set_args`.
# Called after use_modality of utils/stage.sh.
set_options() {
  local set set_parts sets=() parts=() dirs=() name
  if [ -z "$train_sets" ] || [ -n "$train_data" ]; then
    echo "$0: expected train_sets, names of data sets, and no train_data" >&2
    exit 1
  fi
  for set in $train_sets; do
    need "$data_dir/$set/utt2spk" ./run_001_prepare_data.sh
    set_parts=$(parts_of "$set")
    sets+=("$data_dir/$set")
    parts+=("${set_parts%% *}")   # the references, where there are two
  done
  for name in ${train_embedders:-$embedder}; do
    dirs+=("${embed_dir%/*}/$name")
  done
  set_args=(--train-data "${sets[@]}" --train-parts "${parts[@]}" --embed-dirs "${dirs[@]}"
    --items-dir "$items_dir")
  if [ -n "$valid_set" ]; then
    for name in search relevant; do
      if [ ! -f "$data_dir/$valid_set/$name" ]; then
        echo "$0: valid_set: expected a searched set of which it is known who is where; there is no" \
          "$data_dir/$valid_set/$name; name another set, or leave valid_set empty" >&2
        exit 1
      fi
    done
    set_parts=$(parts_of "$valid_set")
    set_args+=(--valid-data "$data_dir/$valid_set" --valid-part "${set_parts##* }")
  fi
}
