#!/usr/bin/env bash
# Demo: make a tiny corpus of films in the layout of WIDER Person Search (CSM), then read it as that is read
# -> data/csm_{train,val}_{cast,candidates}.
# Run by run_001_prepare_data.sh with the variables of the configuration in the environment.
#
# data_dir: where the corpus (demo_cast_corpus) and the data folders are written
set -euo pipefail
. ./path.sh

export csm_dir=${data_dir:-data}/demo_cast_corpus
python local/demo_cast/prepare_data.py --out-dir "$csm_dir"
local/csm/prepare.sh
