#!/usr/bin/env bash
# The whole recipe on a small corpus that is made first: environment, networks, data, faces,
# embeddings, scores, report. Options go to every stage.
#
#   ./run_demo.sh
#   ./run_demo.sh --nj 2 --backends "max ahc"
set -euo pipefail
if [ ! -f path.sh ]; then
  echo "$0: run the recipe's scripts from the repository root" >&2
  exit 1
fi
. ./cmd.sh
config_file=global_conf/config_demo.sh  # configs to read: a.sh, or a.sh,b.sh
. ./utils/parse_options.sh

export VIDPERSON_EXTRAS="${VIDPERSON_EXTRAS:-} demo"
for stage in 000_get_pretrained_models 001_prepare_data 002_detect_faces 003_extract_embeddings \
  004_score 005_eval; do
  echo "== run_$stage.sh"
  "./run_$stage.sh" --config-file "$config_file" "$@"
done
