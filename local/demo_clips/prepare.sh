#!/usr/bin/env bash
# Demo: make a tiny corpus of clips in folders, then read it as a user's own folders are read
# -> data/clips_{train,val,test}.
# Run by run_001_prepare_data.sh with the variables of the configuration in the environment.
#
# data_dir: where the corpus (demo_clips_corpus) and the data folders are written
# clips_valid: share of the clips to learn from that validate
set -euo pipefail
. ./path.sh

corpus=${data_dir:-data}/demo_clips_corpus
python local/demo_clips/prepare_data.py --out-dir "$corpus"
export clips_persons=$corpus/persons clips_strangers=$corpus/strangers
export clips_search=$corpus/search clips_key=$corpus/search.key
local/clips/prepare.sh
