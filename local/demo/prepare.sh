#!/usr/bin/env bash
# Demo: make a tiny corpus in the layout of SRE19 AV, then read it with the code of SRE19 AV
# -> data/demo_{dev,eval}_{enroll,test}.
# Run by run_001_prepare_data.sh with the variables of the configuration in the environment.
#
# data_dir: where the corpus (demo_corpus) and the data folders are written
set -euo pipefail
. ./path.sh

corpus=${data_dir:-data}/demo_corpus
python local/demo/prepare_data.py --out-dir "$corpus"
python local/sre19_av_v/prepare_data.py --data-dir "${data_dir:-data}" \
  --dev-dir "$corpus/dev" --eval-dir "$corpus/eval" --prefix demo |
  xargs -r -d '\n' -n 1 utils/validate_data_dir.sh
