#!/usr/bin/env bash
# The whole recipe on a small corpus that is made first: environment, networks, data, faces,
# embeddings, scores, report. Options go to every stage. The identifiers of a config are trained
# before the scores, each by the options of global_conf/config_train_<identifier>.sh.
#
#   ./run_demo.sh
#   ./run_demo.sh --nj 2 --backends "max ahc"
#   ./run_demo.sh --config-file global_conf/config_demo_clips.sh
set -euo pipefail
if [ ! -f path.sh ]; then
  echo "$0: run the recipe's scripts from the repository root" >&2
  exit 1
fi
. ./cmd.sh
config_file=global_conf/config_demo.sh  # configs to read: a.sh, or a.sh,b.sh
. ./utils/parse_options.sh

for identifier in $identifiers; do
  if [ ! -f "global_conf/config_train_$identifier.sh" ]; then
    echo "$0: identifiers: there is no global_conf/config_train_$identifier.sh with the options of its" \
      "training; write it, or leave $identifier out" >&2
    exit 1
  fi
done

run() {
  echo "== run_$1.sh"
  "./run_$1.sh" "${@:2}"
}

export VIDPERSON_EXTRAS="${VIDPERSON_EXTRAS:-} demo"
if [ -n "$identifiers" ]; then VIDPERSON_EXTRAS+=" torch"; fi
for stage in 000_get_pretrained_models 001_prepare_data 002_detect_faces 003_extract_embeddings; do
  run "$stage" --config-file "$config_file" "$@"
done
for identifier in $identifiers; do
  run 014_train_identifier "$@" \
    --config-file "$config_file,global_conf/config_train_$identifier.sh"
done
for stage in 004_score 005_eval; do
  run "$stage" --config-file "$config_file" "$@"
done
