#!/usr/bin/env bash
# The whole recipe on a small corpus that is made first: environment, networks, data, faces,
# embeddings, scores, report. Options go to every stage. A config names the stages in their order,
# such as demo_stages="0 1 2 3 14:train_x 4 5": stage 14 has the options of
# global_conf/config_train_x.sh, too.
#
#   ./run_demo.sh
#   ./run_demo.sh --nj 2 --backends "max ahc"
#   ./run_demo.sh --config-file global_conf/config_demo_clips.sh
set -euo pipefail
if [ ! -f path.sh ]; then
  echo "$0: run the recipe's scripts from the repository root" >&2
  exit 1
fi
. ./cmd.sh
config_file=global_conf/config_demo.sh  # configs to read: a.sh, or a.sh,b.sh
. ./utils/parse_options.sh

scripts=()
configs=()
for word in $demo_stages; do
  if [[ ! $word =~ ^([0-9]|1[0-9])(:([A-Za-z0-9._+-]+))?$ ]]; then
    echo "$0: demo_stages: expected <stage> or <stage>:<config>, found '$word'" >&2
    exit 1
  fi
  printf -v script 'run_%03d_*.sh' "${BASH_REMATCH[1]}"
  config=$config_file
  if [ -n "${BASH_REMATCH[3]}" ]; then config+=,global_conf/config_${BASH_REMATCH[3]}.sh; fi
  for path in $script "${config##*,}"; do   # the pattern itself where no file is like it
    if [ ! -f "$path" ]; then
      echo "$0: demo_stages: $word: there is no $path; write it, or leave the word out" >&2
      exit 1
    fi
  done
  # shellcheck disable=SC2206  # a pattern
  scripts+=($script)
  configs+=("$config")
done
export VIDPERSON_EXTRAS="${VIDPERSON_EXTRAS:-} demo"
if [[ " $demo_stages" == *" 1"[0-9]* ]]; then VIDPERSON_EXTRAS+=" torch"; fi
for index in "${!scripts[@]}"; do
  echo "== ${scripts[index]}"
  "./${scripts[index]}" "$@" --config-file "${configs[index]}"
done
