#!/usr/bin/env bash
# Fix a data folder: sort, drop what is malformed or not in all lists, make spk2utt again.
# The lists as they were go to DIR/.backup.
# Usage, from the repository root: utils/fix_data_dir.sh DIR
set -euo pipefail
. ./path.sh
exec python -m vidperson.io.data_dir fix "$@"
