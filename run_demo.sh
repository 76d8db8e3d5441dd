#!/usr/bin/env bash
# The whole recipe on a small corpus that is made on the spot: environment, data, faces, embeddings, scores, report.
#
#   ./run_demo.sh [--nj 2] [any other option of global_conf/defaults.sh]
set -euo pipefail
[ -f path.sh ] || { echo "$0: run the recipe's scripts from the repository root" >&2; exit 1; }
. ./utils/signals.sh

if [[ " $* " == *" --help "* || " $* " == *" -h "* ]]; then
  sed -n '2,${/^#/!q; s/^# \{0,1\}//; p}' "$0"
  exit 0
fi
export VIDPERSON_EXTRAS="${VIDPERSON_EXTRAS:-} demo"
options=(--config-file global_conf/config_demo.sh "$@")
for stage in 000_get_pretrained_models 001_prepare_data 002_detect_faces 003_extract_embeddings 004_score 005_eval; do
  echo "== run_$stage.sh"
  "./run_$stage.sh" "${options[@]}"
done
