#!/usr/bin/env bash
# Janus Multimedia, CORE condition: official lists -> data/janus_{dev,eval}_{enroll,test_core}.
# Run by run_001_prepare_data.sh with the variables of the configuration in the environment.
#
# janus_dir: folder of LDC2019E55, the one that holds docs and videos
# data_dir: where the data folders are written
set -euo pipefail
. ./path.sh

if [ -z "${janus_dir:-}" ]; then
  echo "ERROR: local/janus_core: where is Janus Multimedia? Set janus_dir in the config, or give --janus-dir" >&2
  exit 1
fi
python local/janus_core/prepare_data.py --data-dir "${data_dir:-data}" --janus-dir "$janus_dir" |
  xargs -r -d '\n' -n 1 utils/validate_data_dir.sh
