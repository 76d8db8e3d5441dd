#!/usr/bin/env bash
# Find what is to be embedded in every set, such as faces, and cut it out.
#
# Reads:  data/<set>, exp/<modality>_models/<detector>
# Writes: exp/<modality>_det/<detector, or given>/<part>/ with faces.{ark,scp} or bodies.{ark,scp},
#         quality.{ark,scp}, crops.{tar,scp}, status; of speakers speech.{ark,scp}, status
#         A set with labelled boxes has two parts: <set>_ref (the labelled persons) and
#         <set>_facedet (every face).
#
# With --stop-stage 3 it does stage 3, too: the same files as by ./run_003_extract_embeddings.sh, sooner.
#
#   ./run_002_detect_faces.sh --config-file global_conf/config_r50.sh --nj 20
set -euo pipefail
if [ ! -f path.sh ]; then
  echo "$0: run the recipe's scripts from the repository root" >&2
  exit 1
fi
. ./cmd.sh
stop_stage=2  # [2..3] last stage: 3 also embeds what was found
. ./utils/parse_options.sh
. ./utils/stage.sh
. ./path.sh

for modality in $modalities; do
  use_modality "$modality" detector
  each_part cut_items
done
if [ "$stop_stage" = 3 ]; then
  stage_of_sets=./run_003_extract_embeddings.sh
  for modality in $modalities; do
    use_modality "$modality" detector embedder
    each_part embed_items
  done
fi
make_sets
