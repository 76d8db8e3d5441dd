#!/usr/bin/env bash
# Who is in these videos, and when? All stages on two folders of yours, then the answer as a table.
#
#   PERSONS  a folder per person with photos or videos; files beside them are named as the person.
#            It may be empty: then everybody is unknown, with the same number in all videos.
#   VIDEOS   a folder of videos and images, or one file
#
# The networks are the best ones at hand: in exp/<modality>_models, --model-dir or
# VIDPERSON_MODEL_DIR. Else those that ship with the recipe. A config or an option of yours wins.
# Options go to every stage. After a new photo or video run it again: only what is new is computed.
#
# Writes: exp/results/<experiment>/ with who.csv, report.html and the answer in other formats
#
#   ./run_who.sh persons videos
#   ./run_who.sh persons videos --annotate true --fps 2
set -euo pipefail
if [ ! -f path.sh ]; then
  echo "$0: run the recipe's scripts from the repository root" >&2
  exit 1
fi
. ./cmd.sh
config_file=global_conf/config_folder.sh  # configs to read: a.sh, or a.sh,b.sh
declare -a po_words=(folder_persons folder_videos)
. ./utils/parse_options.sh

# Told before path.sh makes the environment, which takes minutes the first time.
if [ -z "$folder_videos" ]; then
  echo "$0: expected two folders: $0 PERSONS VIDEOS; --help tells what is in them" >&2
  exit 1
fi
if [ -n "$folder_persons" ] && [ ! -e "$folder_persons" ]; then
  echo "$0: no folder '$folder_persons'; check its name, or make it:" \
    "without any portrait everybody is unknown" >&2
  exit 1
fi
if [ ! -e "$folder_videos" ]; then
  echo "$0: no folder or file '$folder_videos'; check its name" >&2
  exit 1
fi
. ./path.sh
options=()
for name in "${!po_given[@]}"; do
  options+=("--${name//_/-}=${po_given[$name]}")
done

# The best networks, where neither a config nor an option of the user names any.
if [ "$config_file" = global_conf/config_folder.sh ]; then
  for modality in $modalities; do
    best=$(python steps/get_models.py --best true --modality "$modality" --models-dir "$exp_dir/${modality}_models" \
      --model-dir "$model_dir")
    while read -r kind name; do
      if [ -n "$kind" ] && [[ ! -v po_given[$kind] ]]; then
        printf -v "$kind" %s "$name"
        options+=("--${kind//_/-}=$name")
      fi
    done <<< "$best"
  done
fi
for modality in $modalities; do
  detector=${modality}_detector
  embedder=${modality}_embedder
  echo "networks for $modality: ${!detector:+${!detector} and }${!embedder}" >&2
done

log=$exp_dir/log/run_who.$experiment.log
mkdir -p "$exp_dir/log"
: > "$log"
export VIDPERSON_QUIET=true VIDPERSON_CALL=$0   # the page shows the call
for word in "$@"; do
  if [[ ! $word =~ ^[A-Za-z0-9_./=:,+-]+$ ]]; then word=${word@Q}; fi
  VIDPERSON_CALL+=" $word"
done
run_stage() {
  local code=0
  echo "$1 ..." >&2
  "${@:2}" "${options[@]}" || code=$?
  if [ $code != 0 ]; then
    echo "$0: stopped while $1; more is in $log" >&2
    exit $code
  fi
}
{
  run_stage "getting the networks ready" ./run_000_get_pretrained_models.sh
  run_stage "reading the folders" ./run_001_prepare_data.sh
  run_stage "finding persons in photos and videos" ./run_002_detect_faces.sh --stop-stage 3
  run_stage "comparing them" ./run_004_score.sh
} >> "$log"
run_stage "writing the answer" ./run_005_eval.sh
echo "$exp_dir/results/$experiment/who.csv"
echo "$exp_dir/results/$experiment/report.html"
