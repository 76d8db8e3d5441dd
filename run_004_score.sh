#!/usr/bin/env bash
# Score the trials of every test set with every back-end; with --snorm-cohort also with normalised scores; with
# --calibration-set each system's scores as log-likelihood ratios too, and with --fusion-systems the fusion of several.
#
# Reads:  exp/face_embed/<embedder>, data/<enrolment set>/spk2utt, data/<test set>/trials, and for the back-end track
#         exp/face_det/<detector>; the key of data/<calibration set>/trials; <system>/<test set>_scores of the systems
#         to fuse: names below exp/scores/<embedder>, or paths of other folders, such as a voice system's
# Writes: exp/scores/<embedder>/<system>/<test set>_scores, where <system> is <backend> or <backend>_snorm;
#         <system>_cal/<test set>_scores and calibration.json; fusion/<test set>_scores and fusion.json
#
#   ./run_004_score.sh --config-file global_conf/config_r50.sh --backends "max ahc" --snorm-cohort janus_dev_test_core
#   ./run_004_score.sh --calibration-set sre19_av_v_dev_test --fusion-systems "max exp/voice/scores/ecapa"
set -euo pipefail
[ -f path.sh ] || { echo "$0: run the recipe's scripts from the repository root" >&2; exit 1; }
. ./cmd.sh
force=false  # true: score anew what is done and has not changed
check=false  # true: make nothing, and fail where scores are missing or were made with other options or of other inputs
. ./utils/parse_options.sh
. ./utils/trial_sets.sh
. ./utils/network_names.sh detector embedder
. ./utils/systems.sh
. ./path.sh
. ./utils/need_files.sh

embeddings=$exp_dir/face_embed/$embedder
faces=$exp_dir/face_det/$detector
all_scores=$exp_dir/scores/$embedder

# What would stop this stage halfway stops it before anything is scored.
python steps/check_scoring.py --backends "$backends" --thr-ahc "$thr_ahc" --primary "$primary_cost"
folders=()
for system in $fusion_systems; do
  [[ $system == */* ]] || system=$all_scores/$system
  folders+=("$system")
  [ "${system%/*}" = "$all_scores" ] && [[ " ${systems[*]} " == *" ${system##*/} "* ]] && continue   # is made below
  for test in "${tests[@]}"; do
    need_files "$system/${test}_scores"
  done
done
declare -A embedded=()   # the sets of embeddings that are read for each test set
for pair in $trial_sets; do
  enroll=${pair%%:*}
  test=${pair##*:}
  embedded[$test]="$enroll $test"
  [ ! -f "$data_dir/$enroll/face_boundingbox" ] || embedded[$test]="${enroll}_ref ${enroll}_facedet $test"
done
for set in $(tr ' ' '\n' <<< "${embedded[*]} $snorm_cohort" | sort -u); do
  need_embeddings "$embeddings/$set" "$faces/$set"
done

# Scores are not made again from what they were made of: what stages 2 and 3 wrote is decided by their settings.
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
      scores=$all_scores/$backend$norm
      cohort=()
      [ -z "$norm" ] || cohort=(--cohort-embed "$embeddings/$snorm_cohort" --ncoh "$ncoh" --ncoh-discard "$ncoh_discard")
      inputs=(--input "$data_dir/$enroll/spk2utt" --input "$data_dir/$test/trials")
      for set in ${embedded[$test]} ${norm:+"$snorm_cohort"}; do
        inputs+=(--input "$embeddings/$set/record.json")
      done
      utils/once.sh --cmd "$cmd" --log "$scores/log/$test.log" --force "$force" --check "$check" \
        "${inputs[@]}" --speed-args "--mem-gb $mem_gb" "$scores/${test}_scores" -- \
        python steps/score.py "${reference[@]}" \
        --enroll-data "$data_dir/$enroll" --test-embed "$embeddings/$test" --test-faces "$faces/$test" \
        --trials "$data_dir/$test/trials" --backend "$backend" --thr-ahc "$thr_ahc" "${cohort[@]}" \
        --output "$scores/${test}_scores"
      ! $check || continue
      [ "$scores/$test.config" -nt "$scores/${test}_scores" ] || save_settings "$scores/$test.config"
      echo "$scores/${test}_scores: $(wc -l < "$scores/${test}_scores") scores"
    done
  done
done

# Train a model on the calibration set's key that turns scores of all test sets into others.
# Arguments: output folder, file of the model, folders of scores, --, command
train_on_key() {
  local out=$1 model=$2 options=() set
  shift 2
  for set in "${tests[@]}"; do
    options+=(--also "$out/${set}_scores")
  done
  while [ "$1" != -- ]; do
    for set in "${tests[@]}"; do
      options+=(--input "$1/${set}_scores")
    done
    shift
  done
  utils/once.sh --cmd "$cmd" --log "$out/log/${model%.json}.log" --force "$force" --check "$check" --input "$key" \
    "${options[@]}" "$out/$model" "$@" --train-set "$calibration_set" --train-trials "$key" --sets "${tests[@]}" --output-dir "$out"
  $check || [ "$out/config" -nt "$out/$model" ] || save_settings "$out/config"
}

key=$data_dir/$calibration_set/trials
if [ -n "$calibration_set" ]; then
  for system in "${plain_systems[@]}"; do
    train_on_key "$all_scores/${system}_cal" calibration.json "$all_scores/$system" -- \
      python steps/calibrate.py --scores-dir "$all_scores/$system"
  done
fi
if [ -n "$fusion_systems" ]; then
  train_on_key "$all_scores/fusion" fusion.json "${folders[@]}" -- \
    python steps/fuse.py --systems "${folders[@]}" --max-systems "$max_systems" --primary "$primary_cost"
fi
