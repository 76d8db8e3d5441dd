#!/usr/bin/env bash
# SRE19 audio-visual, visual part: official lists -> data/sre19_av_v_{dev,eval}_{enroll,test}.
# Run by run_001_prepare_data.sh with the variables of the configuration in the environment.
#
# sre19_dev_dir, sre19_eval_dir: folders of LDC2019E56 and LDC2019E57; one of them may be empty
# data_dir: where the data folders are written
set -euo pipefail
. ./path.sh

if [ -z "${sre19_dev_dir:-}${sre19_eval_dir:-}" ]; then
  echo "ERROR: local/sre19_av_v: where is SRE19? Set sre19_dev_dir and/or sre19_eval_dir in the config," \
    "or give --sre19-dev-dir and/or --sre19-eval-dir" >&2
  exit 1
fi
python local/sre19_av_v/prepare_data.py --data-dir "${data_dir:-data}" \
  --dev-dir "${sre19_dev_dir:-}" --eval-dir "${sre19_eval_dir:-}" |
  xargs -r -d '\n' -n 1 utils/validate_data_dir.sh
