#!/usr/bin/env bash
# Find the faces of every set, and cut them out aligned.
#
# Reads:  data/<set>, exp/face_models/<detector>
# Writes: exp/face_det/<detector>/<set>/ with faces.{ark,scp}, quality.{ark,scp}, crops.{tar,scp}, status
#         A set with labelled boxes gives <set>_ref (the labelled persons) and <set>_facedet (every face).
#
#   ./run_002_detect_faces.sh --config-file global_conf/config_r50.sh --nj 20
set -euo pipefail
. ./cmd.sh
force=false  # true: make sets anew that are done or were started with other settings
. ./utils/parse_options.sh
. ./path.sh

model=$exp_dir/face_models/$detector
if [ ! -f "$model/installed.json" ]; then
  echo "$0: the network $detector is not in $model; run ./run_000_get_pretrained_models.sh first" >&2
  exit 1
fi
archives="faces.ark quality.ark crops.tar"
[ "$contact_sheet" = false ] || archives+=" thumbs.tar"

# Arguments: data folder, output folder, more inputs, more arguments of steps_face/detect_faces.py
detect() {
  utils/segment_jobs.sh --cmd "$cmd" --nj "$nj" --force "$force" --archives "$archives" --inputs "$model/installed.json $3" \
    --speed-args "--threads $threads --det-batch $det_batch" "$1" "$2" -- \
    python steps_face/detect_faces.py --model "$model" --engine "$engine" --device "$device" --fps "$fps" --max-size "$max_size" \
    --det-threshold "$det_threshold" --nms-threshold "$nms_threshold" --min-faces "$min_faces" \
    --discard-low-quality "$discard_low_quality" --contact-sheet "$contact_sheet" "${@:4}"
  save_settings "$2/config"
  [ "$contact_sheet" = false ] || python steps_face/make_contact_sheet.py --input-dir "$2"
}

for set in ${trial_sets//:/ }; do
  utils/validate_data_dir.sh "$data_dir/$set"
  labels=$data_dir/$set/face_boundingbox
  if [ -f "$labels" ]; then
    read -r label_unit set_window < "${labels}_conf"
    detect "$data_dir/$set" "$exp_dir/face_det/$detector/${set}_ref" "$labels" --labels "$labels" --label-unit "$label_unit" \
      --det-window "${det_window:-$set_window}" --max-centre-distance "$max_centre_distance"
    detect "$data_dir/$set" "$exp_dir/face_det/$detector/${set}_facedet" ""
  else
    detect "$data_dir/$set" "$exp_dir/face_det/$detector/$set" ""
  fi
done
