#!/usr/bin/env bash
# Turn the aligned faces into embeddings; video is not read again.
#
# Reads:  exp/face_det/<detector>/<set>, exp/face_models/<embedder>
# Writes: exp/face_embed/<embedder>/<set>/ with embed.{ark,scp}, status
#
#   ./run_003_extract_embeddings.sh --config-file global_conf/config_r50.sh --nj 20
set -euo pipefail
[ -f path.sh ] || { echo "$0: run the recipe's scripts from the repository root" >&2; exit 1; }
. ./cmd.sh
force=false  # true: make sets anew that are done or were started with other settings
. ./utils/parse_options.sh
. ./utils/trial_sets.sh
. ./utils/network_names.sh detector embedder
. ./path.sh
export VIDPERSON_STAGE=$0

model=$exp_dir/face_models/$embedder
if [ ! -f "$model/installed.json" ]; then
  echo "$0: the network $embedder is not in $model; run ./run_000_get_pretrained_models.sh first" >&2
  exit 1
fi
. ./utils/engine_options.sh --embed-batch "$embed_batch"
checked=false
for set in "${sets[@]}"; do
  names=("$set")
  [ ! -f "$data_dir/$set/face_boundingbox" ] || names=("${set}_ref" "${set}_facedet")
  for name in "${names[@]}"; do
    faces=$exp_dir/face_det/$detector/$name
    embeddings=$exp_dir/face_embed/$embedder/$name
    if [ ! -f "$faces/record.json" ]; then
      echo "$0: $faces is not done; run ./run_002_detect_faces.sh first" >&2
      exit 1
    fi
    $checked || check_precision "$exp_dir/face_embed/$embedder" --face-dir "$faces"
    checked=true
    new=true
    [ ! -f "$embeddings/record.json" ] || [ ! -f "$embeddings/config" ] || new=$force
    utils/segment_jobs.py --cmd "$launch" --nj "$nj" --force "$force" --archives embed.ark \
      --states "ok no_face damaged unreadable" "${inputs[@]}" --per-segment "$faces" --speed-args "$speed_args" \
      "$data_dir/$set/vid.scp" "$embeddings" -- \
      python steps_face/extract_embeddings.py --face-dir "$faces" "${run[@]}" --mirror "$embed_mirror"
    [ "$new" = false ] || save_settings "$embeddings/config"
  done
done
