#!/usr/bin/env bash
# Evaluate the scores and ranked lists of every system on every test set: tables, plots and one report.
#
# Reads:  exp/scores, all that stage 4 writes with these options; data/<test set>/trials and
#         trial_partitions, or search, utt2group and relevant; for what the report shows
#         exp/<modality>_embed/<embedder>, exp/<modality>_det/<detector> and, of identifiers,
#         exp/<modality>_train
# Writes: exp/results/<experiment>/ with results.{txt,md,csv,json}, report.html, record.json,
#         <system>/<test set>.json, trials/<embedder>/<test set>.json and, of searched sets,
#         picks/<embedder>/<test set>.json or, with cast systems or regions, casts/<test set>.json;
#         with find_persons=true who.{csv,json,rttm}, coco.json, report.html, subtitles/, cvat/,
#         faces/, persons/, unknown/, videos/, and all of the above in evaluation/
#
#   ./run_005_eval.sh --config-file global_conf/config_r50.sh
set -euo pipefail
if [ ! -f path.sh ]; then
  echo "$0: run the recipe's scripts from the repository root" >&2
  exit 1
fi
. ./cmd.sh
. ./utils/parse_options.sh
. ./utils/stage.sh
. ./path.sh

system_options
pairs=() searches=() casts=() cast_args=()
for modality in $modalities; do
  use_modality "$modality" detector embedder
  for pair in "${scored_pairs[@]}"; do
    pair_options "$pair"
    if is_search "${pair##*:}"; then
      searches+=("${pair_args[*]@Q}")   # one word, quoted as a shell reads it
    else
      pairs+=("${pair_args[*]@Q}")
    fi
  done
done
for pair in "${cast_pairs[@]}"; do
  cast_options "$pair"
  casts+=("${cast_pair_args[*]@Q}")
done
casts=(--casts "${casts[@]}" --cast-systems "${cast_args[*]@Q}")
answer_options
answer=(--output-dir "$exp_dir/results/$experiment")
report=("${answer[@]}")
[ ${#answers[@]} = 0 ] || report[1]+=/evaluation
if [ ${#pairs[@]} != 0 ]; then
  python steps/evaluate.py "${report[@]}" --pairs "${pairs[@]}" "${system_args[@]}" --priors "$priors"
fi
if [ ${#searches[@]} != 0 ]; then
  python steps/evaluate_searches.py "${report[@]}" --searches "${searches[@]}" "${search_args[@]}" "${casts[@]}"
fi
if [ ${#answers[@]} = 0 ] || [ $((${#pairs[@]} + ${#searches[@]})) != 0 ]; then
  report+=(--note "$report_note" "${casts[@]}" --pairs "${pairs[@]}" --searches "${searches[@]}" --search-systems "${search_args[*]@Q}")
  python steps/make_report.py "${report[@]}" "${system_args[@]}"
fi
if [ ${#answers[@]} != 0 ]; then
  python steps/write_answers.py "${answer[@]}" --sources "${answers[@]}" --annotate "$annotate"
  python steps/make_who_page.py "${answer[@]}" --sources "${answers[@]}" --models "${answer_models[@]}" --call "${VIDPERSON_CALL:-}"
fi
