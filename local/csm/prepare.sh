#!/usr/bin/env bash
# WIDER Person Search (CSM) -> data/csm_{train,val,test}_{cast,candidates}, those of which there are lists.
# Run by run_001_prepare_data.sh with the variables of the configuration in the environment.
#
# csm_dir: folder with {train,val,test}.json, val_label.json and the folders train, val, test of images
# data_dir: where the data folders are written
set -euo pipefail
. ./path.sh

if [ -z "${csm_dir:-}" ]; then
  echo "ERROR: local/csm: set csm_dir in the config, or give --csm-dir" >&2
  exit 1
fi
python local/csm/prepare_data.py --data-dir "${data_dir:-data}" --corpus-dir "$csm_dir" |
  xargs -r -d '\n' -n 1 utils/validate_data_dir.sh
