#!/usr/bin/env bash
# Score the trials of every test set.
#
# Reads:  exp/face_embed/<embedder>, data/<enrolment set>/spk2utt, data/<test set>/trials
# Writes: exp/scores/<embedder>/<backend>/<test set>_scores
#
#   ./run_004_score.sh --config-file global_conf/config_r50.sh --backend max
set -euo pipefail
[ -f path.sh ] || { echo "$0: run the recipe's scripts from the repository root" >&2; exit 1; }
. ./cmd.sh
. ./utils/parse_options.sh
. ./utils/trial_sets.sh
. ./path.sh

embeddings=$exp_dir/face_embed/$embedder
scores=$exp_dir/scores/$embedder/$backend
for pair in $trial_sets; do
  enroll=${pair%%:*}
  test=${pair##*:}
  reference=(--enroll-embed "$embeddings/$enroll")
  if [ -f "$data_dir/$enroll/face_boundingbox" ]; then
    reference=(--enroll-embed "$embeddings/${enroll}_ref" --fallback-embed "$embeddings/${enroll}_facedet")
  fi
  $cmd "$scores/log/$test.log" python steps_face/score_trials.py "${reference[@]}" --enroll-data "$data_dir/$enroll" \
    --test-embed "$embeddings/$test" --trials "$data_dir/$test/trials" --backend "$backend" --output "$scores/${test}_scores"
  save_settings "$scores/$test.config"
  echo "$scores/${test}_scores: $(wc -l < "$scores/${test}_scores") scores"
done
