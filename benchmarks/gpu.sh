#!/usr/bin/env bash
# Everything worth knowing from a GPU, in one call of less than eight minutes; see benchmarks/gpu.py.
#
# Usage, from the repository root:
#   benchmarks/gpu.sh                        the first GPU; the tables go to exp/gpu/gpu.md, too
#   benchmarks/gpu.sh --device cpu --quick   a test of the script itself, in less than two minutes
set -euo pipefail
export VIDPERSON_EXTRAS=${VIDPERSON_EXTRAS:-demo torch dev}
. ./path.sh
exec python benchmarks/gpu.py "$@"
