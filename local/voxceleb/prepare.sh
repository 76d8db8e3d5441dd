#!/usr/bin/env bash
# VoxCeleb1 and VoxCeleb2 -> data/vox1_{train,train_clean}, data/vox2_{train,train_clean} and
# data/vox1_{o,e,h}_{cleaned,original,other}, those of which there are lists.
# Run by run_001_prepare_data.sh with the variables of the configuration in the environment.
#
# voxceleb1_dir, voxceleb2_dir: folders with wav/, frame_align/ and the lists; one may be empty
# data_dir: where the data folders are written
set -euo pipefail
. ./path.sh

if [ -z "${voxceleb1_dir:-}${voxceleb2_dir:-}" ]; then
  echo "ERROR: local/voxceleb: set voxceleb1_dir or voxceleb2_dir in the config, or give --voxceleb1-dir" >&2
  exit 1
fi
python local/voxceleb/prepare_data.py --data-dir "${data_dir:-data}" \
  --voxceleb1-dir "${voxceleb1_dir:-}" --voxceleb2-dir "${voxceleb2_dir:-}" |
  xargs -r -d '\n' -n 1 utils/validate_data_dir.sh
