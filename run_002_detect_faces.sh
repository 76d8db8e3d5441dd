#!/usr/bin/env bash
# Find what is to be embedded in every set, such as faces, and cut it out.
#
# Reads:  data/<set>, exp/<modality>_models/<detector>
# Writes: exp/<modality>_det/<detector>/<part>/; for faces faces.{ark,scp}, quality.{ark,scp},
#         crops.{tar,scp}, status
#         A set with labelled boxes has two parts: <set>_ref (the labelled persons) and
#         <set>_facedet (every face).
#
#   ./run_002_detect_faces.sh --config-file global_conf/config_r50.sh --nj 20
set -euo pipefail
if [ ! -f path.sh ]; then
  echo "$0: run the recipe's scripts from the repository root" >&2
  exit 1
fi
. ./cmd.sh
. ./utils/parse_options.sh
. ./utils/stage.sh
. ./path.sh

for modality in $modalities; do
  use_modality "$modality" detector
  for data_set in "${data_sets[@]}"; do
    for part in $(parts_of "$data_set"); do
      cut_items "$data_set" "$part"
    done
  done
done
make_sets
