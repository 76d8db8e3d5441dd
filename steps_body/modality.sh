# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # utils/parse_options.sh and utils/stage.sh set the variables, and use cue
# What the stages do for bodies. Sourced by use_modality in utils/stage.sh.

cue=appearance   # portraits do not show it: a cast search compares candidates only

body_states="ok no_body damaged unreadable"

# A data set keeps its name. Arguments: data set.
parts_of() {
  echo "$1"
}

# Stage 2: cut the persons of a data set out where its list `region` says. Arguments: data set, part.
cut_items() {
  local list=$data_dir/$1/vid.scp region=$data_dir/$1/region boxes=() then=()
  need "$list" ./run_001_prepare_data.sh
  if [ -f "$region" ]; then boxes=(--region "$region"); fi
  if [ "$contact_sheet" = true ]; then then=(--then "python steps/make_contact_sheet.py --items-dir"); fi
  add_set --cmd "$cmd" --validate true --check true --media true --states "$body_states" \
    --archives "bodies.ark quality.ark crops.tar thumbs.tar" "${boxes[@]/#--region/--per-segment}" "${then[@]}" \
    --speed-args "--threads $threads --segment-timeout-s $segment_timeout_s" "$list" "$items_dir/$2" -- \
    python steps_body/cut_bodies.py "${boxes[@]}" --fps "$fps" --max-pixels "$max_pixels" \
    --max-duration-s "$max_duration_s"
}

# Stage 3: turn the persons of a part into embeddings. Arguments: data set, part.
embed_items() {
  use_network "$body_embedder" --embed-batch "$embed_batch"
  check_precision "$embed_dir" --items-dir "$items_dir/$2"
  add_set --cmd "$launch" --check true --states "$body_states" --archives embed.ark "${network_inputs[@]}" \
    --per-segment "$items_dir/$2" --speed-args "$speed_args" "$data_dir/$1/vid.scp" "$embed_dir/$2" -- \
    python steps_body/extract_embeddings.py --items-dir "$items_dir/$2" "${network_args[@]}" --mirror "$embed_mirror"
}
