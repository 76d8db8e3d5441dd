# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # utils/parse_options.sh and utils/stage.sh set the variables, and use cue
# What the stages do for faces. Sourced by use_modality in utils/stage.sh.

face_states="ok unsure no_face face_rejected damaged unreadable"
cue=identity     # portraits show it: stage 4 compares them with candidates

# The names of a data set from stage 2 on: one with labelled boxes has the labelled persons, and everybody as fallback.
parts_of() {
  if [ -f "$data_dir/$1/face_boundingbox" ] && [ ! -f "$data_dir/$1/frames.scp" ]; then
    echo "$1_ref $1_facedet"
  else
    echo "$1"
  fi
}

# Stage 2: find the faces of a data set and cut them out aligned; those of frames.scp are so already, and no detector
# is needed. With the list `region`, the faces of a frame are given to the persons in it. Arguments: data set, part.
cut_items() {
  if [ -f "$data_dir/$1/frames.scp" ]; then take_items "$@"; else find_items "$@"; fi
}

take_items() {
  local then=()
  if [ "$contact_sheet" = true ]; then then=(--then "python steps/make_contact_sheet.py --items-dir"); fi
  add_set --cmd "$cmd" --validate true --check true --media true --states "$face_states" \
    --archives "faces.ark quality.ark shots.ark crops.tar thumbs.tar" "${then[@]}" \
    --speed-args "--segment-timeout-s $segment_timeout_s" "$data_dir/$1/frames.scp" "$items_dir/$2" -- \
    python steps_face/take_aligned_faces.py --aligned-faces "$aligned_faces" --max-pixels "$max_pixels" \
    --max-duration-s "$max_duration_s"
}

find_items() {
  local data=$data_dir/$1 part=$items_dir/$2 inputs=() persons=() then=() label_unit conf_window
  use_network "$face_detector" --det-batch "$det_batch"
  if [ "$decoder" = cuda ]; then launch=$cuda_cmd; fi
  check_precision "$items_dir" --scp "$data/vid.scp" --max-size "$max_size"
  if [ "$2" = "$1_ref" ]; then
    need "$data/face_boundingbox_conf" ./run_001_prepare_data.sh
    inputs=(--per-segment "$data/face_boundingbox" --input "$data/face_boundingbox_conf")
    read -r label_unit conf_window < "$data/face_boundingbox_conf" || [ -n "$conf_window" ]   # the line end may lack
    persons=(--labels "$data/face_boundingbox" --label-unit "$label_unit" --det-window "${det_window:-$conf_window}"
      --max-centre-distance "$max_centre_distance")
  elif [ -f "$data/region" ]; then
    # persons who share a frame share its faces: they decide each other's outcome, whatever the job
    inputs=(--per-segment "$data/region" --of-files true)
    persons=(--region "$data/region" --all-scp "$data/vid.scp" --face-per-region "$face_per_region")
  fi
  if [ "$contact_sheet" = true ]; then then=(--then "python steps/make_contact_sheet.py --items-dir"); fi
  add_set --cmd "$launch" --validate true --check true --media true --states "$face_states" \
    --archives "faces.ark quality.ark shots.ark crops.tar thumbs.tar" "${network_inputs[@]}" "${inputs[@]}" "${then[@]}" \
    --speed-args "$speed_args --segment-timeout-s $segment_timeout_s" "$data/vid.scp" "$part" -- \
    python steps_face/detect_faces.py "${network_args[@]}" --fps "$fps" --frames "$frames" \
    --longest-gap-s "$longest_gap_s" --second-look "$second_look" --max-size "$max_size" \
    --det-scales "$det_scales" --det-mirror "$det_mirror" --det-threshold "$det_threshold" \
    --nms-threshold "$nms_threshold" --min-faces "$min_faces" --det-fallback "$det_fallback" \
    --discard-low-quality "$discard_low_quality" --max-pixels "$max_pixels" \
    --max-duration-s "$max_duration_s" --decoder "$decoder" "${persons[@]}"
}

# Stage 3: turn the aligned faces of a part into embeddings. Arguments: data set, part.
embed_items() {
  local list=$data_dir/$1/vid.scp
  if [ -f "$data_dir/$1/frames.scp" ]; then list=$data_dir/$1/frames.scp; fi
  use_network "$face_embedder" --embed-batch "$embed_batch"
  check_precision "$embed_dir" --items-dir "$items_dir/$2"
  add_set --cmd "$launch" --check true --states "$face_states" \
    --archives embed.ark "${network_inputs[@]}" --per-segment "$items_dir/$2" --speed-args "$speed_args" \
    "$list" "$embed_dir/$2" -- \
    python steps_face/extract_embeddings.py --items-dir "$items_dir/$2" "${network_args[@]}" --mirror "$embed_mirror"
}
