#!/usr/bin/env bash
# Own clips of persons, of strangers and to search -> data/clips_train, data/clips_valid, data/clips_test.
# Run by run_001_prepare_data.sh with the variables of the configuration in the environment.
#
# clips_persons: one folder per person, with videos or images to learn from
# clips_search: videos or images to search
# clips_strangers: optional folder of videos or images of other people
# clips_key: optional list '<person><tab><video>' of who is in which searched video
# clips_valid: share of each person's videos for clips_valid; 0: there is no such set
# data_dir: where the data folders are written
set -euo pipefail
. ./path.sh

for variable in clips_persons clips_search; do
  if [ -z "${!variable:-}" ]; then
    echo "ERROR: local/clips: set $variable in the config, or give --${variable//_/-}" >&2
    exit 1
  fi
done
python local/clips/prepare_data.py --data-dir "${data_dir:-data}" \
  --persons-dir "${clips_persons:-}" --search-dir "${clips_search:-}" --strangers-dir "${clips_strangers:-}" \
  --key "${clips_key:-}" --valid-share "${clips_valid:-0.0}" |
  xargs -r -d '\n' -n 1 utils/validate_data_dir.sh
