#!/usr/bin/env bash
# Get the networks that the config names: from --model-dir or VIDPERSON_MODEL_DIR, else by download.
# They are checked and converted. A network that a training exported is named as it was there.
#
# Reads:  model cards in vidperson/zoo, exp/<modality>_train
# Writes: exp/<modality>_models/<network>/
#
#   ./run_000_get_pretrained_models.sh --config-file global_conf/config_r50.sh
#   ./run_000_get_pretrained_models.sh --list        shows the networks that have a card
set -euo pipefail
if [ ! -f path.sh ]; then
  echo "$0: run the recipe's scripts from the repository root" >&2
  exit 1
fi
. ./cmd.sh

if [ "${1:-}" = --list ]; then
  . ./path.sh
  exec python steps/get_models.py --list true
fi

. ./utils/parse_options.sh
. ./utils/stage.sh
. ./path.sh

# An extra of the environment; with an interpreter of the user's own nothing is installed.
add_extra() {
  if [ -z "${VIDPERSON_PYTHON:-}" ]; then utils/make_env.sh "$1"; fi
}

if [ "$engine" = torch ]; then add_extra torch; fi
if [ "$engine" = mxnet ] && [ -z "${VIDPERSON_MXNET_PYTHON:-}" ]; then add_extra mxnet; fi
for modality in $modalities; do
  use_modality "$modality"
  get_models=(python steps/get_models.py --models-dir "$models_dir" --modality "$modality" --model-dir "$model_dir"
    --train-dir "$exp_dir/${modality}_train"
    --detector "$detector_network" --embedder "$embedder")
  if [ "$("${get_models[@]}" --needs-torch true)" = true ]; then
    echo "a PyTorch checkpoint has to be converted once: installing the torch extra"
    add_extra torch
  fi
  "${get_models[@]}"
done
