#!/usr/bin/env bash
# Turn the items of stage 2, such as aligned faces, into embeddings. Video is not read again, sound is.
#
# Reads:  exp/<modality>_det/<detector>/<part>, exp/<modality>_models/<embedder>
# Writes: exp/<modality>_embed/<embedder>/<part>/ with embed.{ark,scp}, status
#
#   ./run_003_extract_embeddings.sh --config-file global_conf/config_r50.sh --nj 20
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
  use_modality "$modality" detector embedder
  each_part embed_items
done
make_sets
