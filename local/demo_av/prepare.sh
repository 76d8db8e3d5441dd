#!/usr/bin/env bash
# Demo: make a tiny corpus of talking people in the layout of VoxCeleb, then read it as that is read
# -> data/vox1_{o,e}_other, data/vox2_train.
# Run by run_001_prepare_data.sh with the variables of the configuration in the environment.
#
# data_dir: where the corpus (demo_av_corpus) and the data folders are written
set -euo pipefail
. ./path.sh

corpus=${data_dir:-data}/demo_av_corpus
python local/demo_av/prepare_data.py --out-dir "$corpus"
export voxceleb1_dir=$corpus/voxceleb1 voxceleb2_dir=$corpus/voxceleb2
local/voxceleb/prepare.sh
