#!/usr/bin/env bash
# Say what is wrong with a data folder: file, line and how to fix it. Exit status 1 if anything is.
# Usage, from the repository root: utils/validate_data_dir.sh DIR [--check-files]
set -euo pipefail
. ./path.sh
exec python -m vidperson.io.data_dir validate "$@"
