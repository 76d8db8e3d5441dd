#!/usr/bin/env bash
# Cut a data folder into NJ parts of about the same length: DIR/split<NJ>/<1..NJ>/, or OUT/<1..NJ>/.
# Usage, from the repository root: utils/split_data.sh DIR NJ [OUT]
set -euo pipefail
. ./path.sh
exec python -m vidperson.io.data_dir split "$@"
