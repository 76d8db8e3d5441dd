# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # utils/parse_options.sh and utils/stage.sh set the variables, and use cue
# What the stages do for voices. Sourced by use_modality in utils/stage.sh.

optional_network=detector   # empty: the whole sound is speech
own_detectors=energy        # no network
cue=identity

speech_states="ok silent short no_audio damaged unreadable"

# A data set keeps its name. Arguments: data set.
parts_of() {
  echo "$1"
}

# Stages 2 and 3 read the sound that wav.scp lists: sound files, or videos with a sound track. Arguments: data set.
need_sound() {
  if [ -f "$data_dir/$1/wav.scp" ]; then return; fi
  echo "$0: the modality $modality reads the list $data_dir/$1/wav.scp, which is not there: <segment> <path of a" \
    "sound file, or of a video with sound>; run ./run_001_prepare_data.sh for a corpus with sound, or leave" \
    "$modality out of modalities" >&2
  exit 1
}

# Stage 2: find where somebody talks, and measure how good the sound is. Arguments: data set, part.
cut_items() {
  need_sound "$1"
  add_set --cmd "$cmd" --validate true --check true --media true --states "$speech_states" --archives speech.ark \
    --speed-args "--segment-timeout-s $segment_timeout_s" "$data_dir/$1/wav.scp" "$items_dir/$2" -- \
    python steps_speaker/find_speech.py --detector "$detector" --shortest-s "$speaker_shortest_s" \
    --window-s "$speaker_window_s" \
    --max-duration-s "$max_duration_s"
}

# Stage 3: turn the speech of a part into embeddings. Arguments: data set, part.
embed_items() {
  need_sound "$1"
  use_network "$embedder" --embed-batch "$embed_batch"
  check_precision "$embed_dir" --items-dir "$items_dir/$2" --items-scp "$data_dir/$1/wav.scp"
  add_set --cmd "$launch" --check true --media true --states "$speech_states" --archives embed.ark \
    "${network_inputs[@]}" --per-segment "$items_dir/$2" --speed-args "$speed_args" \
    "$data_dir/$1/wav.scp" "$embed_dir/$2" -- \
    python steps_speaker/extract_embeddings.py --items-dir "$items_dir/$2" "${network_args[@]}" \
    --crops "$speaker_crops" --longest-s "$speaker_longest_s" --window-s "$speaker_window_s"
}
