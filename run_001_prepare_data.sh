#!/usr/bin/env bash
# Turn the folders of each corpus into data folders.
#
# Reads:  the corpora's own folders, given by options such as --sre19-dev-dir, --janus-dir, --folder-persons
# Writes: data/<set>/ with vid.scp, frames.scp or wav.scp, utt2spk, spk2utt, face_boundingbox, utt2dur,
#         vid2dur, vid2pixels, vid2taken, trials or search, utt2group, relevant
#
#   ./run_001_prepare_data.sh --sre19-dev-dir /corpora/LDC2019E56 --sre19-eval-dir /corpora/LDC2019E57 --corpora sre19_av_v
set -euo pipefail
if [ ! -f path.sh ]; then
  echo "$0: run the recipe's scripts from the repository root" >&2
  exit 1
fi
. ./cmd.sh
stage=1       # first part to run: 1 the corpora's lists, 2 the durations
stop_stage=2  # last part to run
. ./utils/parse_options.sh
. ./utils/stage.sh
. ./path.sh

if ((stage > 2 || stop_stage < 1 || stage > stop_stage)); then
  echo "$0: nothing to do from part $stage to part $stop_stage; there are 1, the corpora's lists, and 2, the durations" >&2
  exit 1
fi
if ((stage <= 1)); then mkdir -p "$data_dir"; fi
if [ -d "$data_dir" ]; then
  exec 9> "$data_dir/.lock"   # held until the stage and all that it started have ended
  if ! flock -n 9; then
    echo "$0: another run prepares data in $data_dir; waiting for its end"
    flock 9
  fi
fi
if ((stage <= 1)); then
  export "${po_names[@]}"   # the corpora take their folders from these
  for corpus in $corpora; do
    if [ ! -x "local/$corpus/prepare.sh" ]; then
      echo "$0: no corpus '$corpus'; valid: $(cd local && echo */)" >&2
      exit 1
    fi
    "local/$corpus/prepare.sh"
  done
fi

if ((stop_stage >= 2)); then
  found=false
  for data_set in "${data_sets[@]}"; do
    if [ -d "$data_dir/$data_set" ]; then
      python steps/get_durations.py --data-dir "$data_dir/$data_set"
      echo "$data_dir/$data_set: $(cut -d ' ' -f 1 "$data_dir/$data_set"/*.scp | sort -u | wc -l) segments"
      found=true
    else
      echo "$data_dir/$data_set is not there: leave it out of --trial-sets, or prepare its corpus" >&2
    fi
  done
  if [ $found = false ]; then
    there=$(cd "$data_dir" 2>/dev/null && shopt -s nullglob && echo *) || true
    echo "$0: none of the sets of trial_sets is there; $data_dir has: ${there:-none}" >&2
    exit 1
  fi
fi
