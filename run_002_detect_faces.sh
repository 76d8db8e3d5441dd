#!/usr/bin/env bash
# Find the faces of every set, and cut them out aligned.
#
# Reads:  data/<set>, exp/face_models/<detector>
# Writes: exp/face_det/<detector>/<set>/ with faces.{ark,scp}, quality.{ark,scp}, crops.{tar,scp}, status
#         A set with labelled boxes gives <set>_ref (the labelled persons) and <set>_facedet (every face).
#
#   ./run_002_detect_faces.sh --config-file global_conf/config_r50.sh --nj 20
set -euo pipefail
[ -f path.sh ] || { echo "$0: run the recipe's scripts from the repository root" >&2; exit 1; }
. ./cmd.sh
force=false  # true: make sets anew that are done or were started with other settings
. ./utils/parse_options.sh
. ./utils/trial_sets.sh
. ./utils/network_names.sh detector
. ./path.sh
export VIDPERSON_STAGE=$0

model=$exp_dir/face_models/$detector
if [ ! -f "$model/installed.json" ]; then
  echo "$0: the network $detector is not in $model; run ./run_000_get_pretrained_models.sh first" >&2
  exit 1
fi
. ./utils/engine_options.sh --det-batch "$det_batch"
check_precision "$exp_dir/face_det/$detector" --scp "$data_dir/${sets[0]}/vid.scp" --max-size "$max_size"

# Arguments: data folder, output folder, more options of utils/segment_jobs.py, --, more arguments of the step
detect() {
  local data=$1 out=$2 options=()
  shift 2
  while [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  shift
  local new=true
  [ ! -f "$out/record.json" ] || [ ! -f "$out/config" ] || new=$force
  utils/segment_jobs.py --cmd "$launch" --nj "$nj" --force "$force" --archives "faces.ark quality.ark crops.tar thumbs.tar" \
    --states "ok no_face damaged unreadable" "${inputs[@]}" --media true "${options[@]}" \
    --speed-args "$speed_args --segment-timeout-s $segment_timeout_s" "$data/vid.scp" "$out" -- \
    python steps_face/detect_faces.py "${run[@]}" --fps "$fps" --max-size "$max_size" --det-scales "$det_scales" \
    --det-mirror "$det_mirror" --det-threshold "$det_threshold" --nms-threshold "$nms_threshold" --min-faces "$min_faces" \
    --discard-low-quality "$discard_low_quality" --max-pixels "$max_pixels" --max-duration-s "$max_duration_s" "$@"
  [ "$new" = false ] || save_settings "$out/config"
  [ "$contact_sheet" = false ] || [ "$out/contact_sheet.jpg" -nt "$out/record.json" ] || python steps/make_contact_sheet.py --input-dir "$out"
}

for set in "${sets[@]}"; do
  utils/validate_data_dir.sh "$data_dir/$set"
  labels=$data_dir/$set/face_boundingbox
  if [ -f "$labels" ]; then
    read -r label_unit set_window < "${labels}_conf" || [ -n "$set_window" ]   # its line may lack the line end
    detect "$data_dir/$set" "$exp_dir/face_det/$detector/${set}_ref" --per-segment "$labels" -- --labels "$labels" \
      --label-unit "$label_unit" --det-window "${det_window:-$set_window}" --max-centre-distance "$max_centre_distance"
    detect "$data_dir/$set" "$exp_dir/face_det/$detector/${set}_facedet" --
  else
    detect "$data_dir/$set" "$exp_dir/face_det/$detector/$set" --
  fi
done
