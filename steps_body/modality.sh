# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # utils/parse_options.sh and utils/stage.sh set the variables, and use cue
# What the stages do for bodies. Sourced by use_modality in utils/stage.sh.

optional_network=detector   # empty: boxes are given
cue=appearance   # portraits do not show it: a cast search compares candidates only

body_states="ok no_body damaged unreadable"

# A data set keeps its name. Arguments: data set.
parts_of() {
  echo "$1"
}

# Stage 2: cut the persons of a data set out where its list `region` says; of a set without it those that the detector
# finds, or whole frames where there is no detector. Arguments: data set, part.
cut_items() {
  local data=$data_dir/$1 step then=() inputs=()
  need "$data/vid.scp" ./run_001_prepare_data.sh
  launch=$cmd
  speed_args="--threads $threads"
  if [ -n "$detector" ] && [ ! -f "$data/region" ]; then
    use_network "$detector" --det-batch "$det_batch"
    inputs=("${network_inputs[@]}")
    step=(steps_body/find_bodies.py "${network_args[@]}" --threshold "$person_threshold"
      --nms-threshold "$person_nms_threshold")
  else
    step=(steps_body/cut_bodies.py)
    if [ -f "$data/region" ]; then
      step+=(--region "$data/region")
      inputs=(--per-segment "$data/region")
    fi
  fi
  if [ "$contact_sheet" = true ]; then then=(--then "python steps/make_contact_sheet.py --items-dir"); fi
  add_set --cmd "$launch" --validate true --check true --media true --states "$body_states" \
    --archives "bodies.ark quality.ark shots.ark crops.tar thumbs.tar" "${inputs[@]}" "${then[@]}" \
    --speed-args "$speed_args --segment-timeout-s $segment_timeout_s" "$data/vid.scp" "$items_dir/$2" -- \
    python "${step[@]}" --fps "$fps" --max-pixels "$max_pixels" --max-duration-s "$max_duration_s"
}

# Stage 3: turn the persons of a part into embeddings. Arguments: data set, part.
embed_items() {
  use_network "$body_embedder" --embed-batch "$embed_batch"
  check_precision "$embed_dir" --items-dir "$items_dir/$2"
  add_set --cmd "$launch" --check true --states "$body_states" --archives embed.ark "${network_inputs[@]}" \
    --per-segment "$items_dir/$2" --speed-args "$speed_args" "$data_dir/$1/vid.scp" "$embed_dir/$2" -- \
    python steps_body/extract_embeddings.py --items-dir "$items_dir/$2" "${network_args[@]}" --mirror "$embed_mirror"
}
