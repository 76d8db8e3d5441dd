#!/usr/bin/env bash
# Own folders of persons and videos -> data/folder_enroll, data/folder_test.
# Run by run_001_prepare_data.sh with the variables of the configuration in the environment.
#
# folder_persons: one folder per person, with portraits or videos
# folder_videos: videos or images to search
# find_persons: true: who is in each video; there may be no portrait, then folder_enroll is empty
# folder_key: optional list '<person><tab><video>' of the target pairs
# modalities: with speaker in it, wav.scp lists the sound of the same files
# data_dir: where the data folders are written
set -euo pipefail
. ./path.sh

find_persons=${find_persons:-false}
case " ${modalities:-} " in *" speaker "*) sound=true ;; *) sound=false ;; esac
for variable in folder_persons folder_videos; do
  if [ -z "${!variable:-}" ] && [ "$variable $find_persons" != "folder_persons true" ]; then
    echo "ERROR: local/folder: set $variable in the config, or give --${variable//_/-}" >&2
    exit 1
  fi
done
python local/folder/prepare_data.py --data-dir "${data_dir:-data}" \
  --persons-dir "${folder_persons:-}" --videos-dir "${folder_videos:-}" --key "${folder_key:-}" \
  --find-persons "$find_persons" --sound "$sound" |
  xargs -r -d '\n' -n 1 utils/validate_data_dir.sh
