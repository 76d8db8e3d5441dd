#!/usr/bin/env bash
# Get the networks that the config names: taken from --model-dir or VIDPERSON_MODEL_DIR, else downloaded; checked, converted.
#
# Reads:  model cards in vidperson/zoo
# Writes: exp/face_models/<model>/
#
#   ./run_000_get_pretrained_models.sh --config-file global_conf/config_r50.sh
#   ./run_000_get_pretrained_models.sh --list        shows the networks that have a card
set -euo pipefail
[ -f path.sh ] || { echo "$0: run the recipe's scripts from the repository root" >&2; exit 1; }
. ./cmd.sh

if [ "${1:-}" = --list ]; then
  . ./path.sh
  exec python steps/get_models.py --list true
fi

. ./utils/parse_options.sh
. ./path.sh

get_models=(python steps/get_models.py --models-dir "$exp_dir/face_models" --modality face --model-dir "$model_dir"
  --detector "$detector" --embedder "$embedder")
if [ -z "${VIDPERSON_PYTHON:-}" ]; then
  if [ "$engine" = torch ]; then
    utils/make_env.sh torch
  elif [ "$("${get_models[@]}" --needs-torch true)" = true ]; then
    echo "a PyTorch checkpoint has to be converted once: installing the torch extra"
    utils/make_env.sh torch
  fi
  [ "$engine" != mxnet ] || [ -n "${VIDPERSON_MXNET_PYTHON:-}" ] || utils/make_env.sh mxnet
fi
"${get_models[@]}"
