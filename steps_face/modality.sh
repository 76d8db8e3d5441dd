# shellcheck shell=bash
# shellcheck disable=SC2154  # utils/parse_options.sh sets the options
# Where faces differ from other modalities. Sourced by the stages.

# The parts under which a set appears from stage 2 on, the reference first, the fallback second. Arguments: set.
parts_of() {
  if [ -f "$data_dir/$1/face_boundingbox" ]; then
    echo "${1}_ref ${1}_facedet"
  else
    echo "$1"
  fi
}
