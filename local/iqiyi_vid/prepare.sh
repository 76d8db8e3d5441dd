#!/usr/bin/env bash
# iQIYI-VID of 2018 or 2019 -> data/iqiyi_vid_{train,val,test}; iQIYI-VID-FACE without lists -> data/iqiyi_vid_face.
# Run by run_001_prepare_data.sh with the variables of the configuration in the environment.
#
# iqiyi_vid_dir: folder with the lists and the clips, as distributed
# iqiyi_vid_key: optional list of who is in which test clip, of the form of val_gt.txt
# data_dir: where the data folders are written
set -euo pipefail
. ./path.sh

if [ -z "${iqiyi_vid_dir:-}" ]; then
  echo "ERROR: local/iqiyi_vid: set iqiyi_vid_dir in the config, or give --iqiyi-vid-dir" >&2
  exit 1
fi
python local/iqiyi_vid/prepare_data.py --data-dir "${data_dir:-data}" \
  --corpus-dir "${iqiyi_vid_dir:-}" --key "${iqiyi_vid_key:-}" |
  xargs -r -d '\n' -n 1 utils/validate_data_dir.sh
