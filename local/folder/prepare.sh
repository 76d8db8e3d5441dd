#!/usr/bin/env bash
# Own folders of persons and videos -> data/folder_enroll, data/folder_test.
# Run by run_001_prepare_data.sh with the variables of the configuration in the environment.
#
# folder_persons: one folder per person, with portraits or videos
# folder_videos: videos or images to search
# folder_key: optional list '<person><tab><video>' of the target pairs
# data_dir: where the data folders are written
set -euo pipefail
. ./path.sh

for variable in folder_persons folder_videos; do
  if [ -z "${!variable:-}" ]; then
    echo "ERROR: local/folder: set $variable in the config, or give --${variable//_/-}" >&2
    exit 1
  fi
done
python local/folder/prepare_data.py --data-dir "${data_dir:-data}" \
  --persons-dir "${folder_persons:-}" --videos-dir "${folder_videos:-}" --key "${folder_key:-}" |
  xargs -r -d '\n' -n 1 utils/validate_data_dir.sh
