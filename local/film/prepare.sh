#!/usr/bin/env bash
# shellcheck disable=SC2154  # run_001_prepare_data.sh exports the variables
# Own films and portraits -> data/film_cast, data/film_candidates.
# Run by run_001_prepare_data.sh with the variables of the configuration in the environment.
#
# film_videos: videos, or a folder of images per film
# film_persons: one folder per person, with portraits
# film_key: optional list '<person><tab><candidate>'
# film_frames, film_longest_s: key frames per shot, and seconds from which on a shot is several
# body_detector: what finds the persons, an installed network; empty: face_detector, by their faces
# data_dir: where the data folders are written; exp_dir: where the networks are
set -euo pipefail
. ./path.sh

for variable in film_videos film_persons; do
  if [ -z "${!variable:-}" ]; then
    echo "ERROR: local/film: set $variable in the config, or give --${variable//_/-}" >&2
    exit 1
  fi
done
if [ -n "${body_detector:-}" ]; then
  detector=(--model "$exp_dir/body_models/$body_detector" --threshold "$person_threshold"
    --nms-threshold "$person_nms_threshold")
else
  detector=(--face-model "$exp_dir/face_models/$face_detector" --face-threshold "$det_threshold"
    --max-size "$max_size")
fi
python local/film/prepare_data.py --data-dir "${data_dir:-data}" --videos-dir "$film_videos" \
  --persons-dir "$film_persons" --key "${film_key:-}" --frames "$film_frames" --longest-s "$film_longest_s" \
  --max-pixels "$max_pixels" --max-duration-s "$max_duration_s" --film-timeout-s "$film_timeout_s" \
  --engine "$engine" --decoder-threads "$(nproc)" "${detector[@]}" |
  xargs -r -d '\n' -n 1 utils/validate_data_dir.sh
