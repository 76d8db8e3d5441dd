#!/usr/bin/env bash
# SRE21, visual track: official lists -> data/sre21_av_v_{dev,eval}_{enroll,test}.
# Run by run_001_prepare_data.sh with the variables of the configuration in the environment.
#
# sre21_dev_dir, sre21_eval_dir: folders of LDC2021E09 and LDC2021E10; one of them may be empty
# sre21_partitions: columns of the key that make the partitions of the trials
# data_dir: where the data folders are written
set -euo pipefail
. ./path.sh

if [ -z "${sre21_dev_dir:-}${sre21_eval_dir:-}" ]; then
  echo "ERROR: local/sre21_av_v: where is SRE21? Set sre21_dev_dir and/or sre21_eval_dir in the config," \
    "or give --sre21-dev-dir and/or --sre21-eval-dir" >&2
  exit 1
fi
python local/sre21_av_v/prepare_data.py --data-dir "${data_dir:-data}" \
  --dev-dir "${sre21_dev_dir:-}" --eval-dir "${sre21_eval_dir:-}" --partitions "${sre21_partitions-gender}" |
  xargs -r -d '\n' -n 1 utils/validate_data_dir.sh
