#!/usr/bin/env bash
# Score the trials of every test set with every back-end; with --snorm-cohort also with normalised scores.
#
# Reads:  exp/face_embed/<embedder>, data/<enrolment set>/spk2utt, data/<test set>/trials, and for the back-end track
#         exp/face_det/<detector>
# Writes: exp/scores/<embedder>/<backend>/<test set>_scores, <backend>_snorm/<test set>_scores
#
#   ./run_004_score.sh --config-file global_conf/config_r50.sh --backends "max ahc" --snorm-cohort janus_dev_test_core
set -euo pipefail
[ -f path.sh ] || { echo "$0: run the recipe's scripts from the repository root" >&2; exit 1; }
. ./cmd.sh
. ./utils/parse_options.sh
. ./utils/trial_sets.sh
. ./path.sh
[ -n "$backends" ] || { echo "$0: backends is empty; expected a back-end or several, e.g. max" >&2; exit 1; }

embeddings=$exp_dir/face_embed/$embedder
faces=$exp_dir/face_det/$detector
for backend in $backends; do
  for pair in $trial_sets; do
    enroll=${pair%%:*}
    test=${pair##*:}
    reference=(--enroll-embed "$embeddings/$enroll" --enroll-faces "$faces/$enroll")
    if [ -f "$data_dir/$enroll/face_boundingbox" ]; then
      reference=(--enroll-embed "$embeddings/${enroll}_ref" --enroll-faces "$faces/${enroll}_ref"
        --fallback-embed "$embeddings/${enroll}_facedet")
    fi
    for norm in "" ${snorm_cohort:+_snorm}; do
      scores=$exp_dir/scores/$embedder/$backend$norm
      cohort=()
      [ -z "$norm" ] || cohort=(--cohort-embed "$embeddings/$snorm_cohort" --ncoh "$ncoh" --ncoh-discard "$ncoh_discard")
      $cmd "$scores/log/$test.log" python steps_face/score_trials.py "${reference[@]}" \
        --enroll-data "$data_dir/$enroll" --test-embed "$embeddings/$test" --test-faces "$faces/$test" \
        --trials "$data_dir/$test/trials" --backend "$backend" --thr-ahc "$thr_ahc" "${cohort[@]}" \
        --mem-gb "$mem_gb" --output "$scores/${test}_scores"
      save_settings "$scores/$test.config"
      echo "$scores/${test}_scores: $(wc -l < "$scores/${test}_scores") scores"
    done
  done
done
