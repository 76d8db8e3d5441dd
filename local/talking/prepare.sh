#!/usr/bin/env bash
# Own folders of talking videos -> data/talking_test, data/talking_train.
# Run by run_001_prepare_data.sh with the variables of the configuration in the environment.
#
# talking_test: one folder per person, with talking videos to compare
# talking_train: likewise, of other persons, to train on; may be empty
# data_dir: where the data folders are written
set -euo pipefail
. ./path.sh

if [ -z "${talking_test:-}" ]; then
  echo "ERROR: local/talking: set talking_test in the config, or give --talking-test" >&2
  exit 1
fi
python local/talking/prepare_data.py --data-dir "${data_dir:-data}" \
  --test-dir "$talking_test" --train-dir "${talking_train:-}" |
  xargs -r -d '\n' -n 1 utils/validate_data_dir.sh
