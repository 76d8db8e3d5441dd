# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # the stages use what is set here; utils/parse_options.sh sets the options
# What stages 0 to 5 share. Sourced after utils/parse_options.sh. Sets
#
#   data_sets, test_sets   the data folders of $trial_sets and the test sets among them, each once;
#                          data_sets also those of $snorm_cohort and $submean_set that are there
#   enroll_of              test set -> its enrolment sets, joined by + as in $trial_sets
#
# and defines is_search, is_scored, is_empty, use_modality, use_network, check_precision, need, each_part,
# add_set, make_sets, system_options, pair_options, cast_options, who_options and answer_options.

data_sets=()
test_sets=()
declare -A enroll_of=()
set_name="[A-Za-z0-9_][A-Za-z0-9._-]*"
for pair in $trial_sets; do
  if [[ ! $pair =~ ^$set_name([+]$set_name)*:$set_name$ ]]; then
    echo "$0: trial_sets: expected <enrolment set>:<test set>, found '$pair';" \
      "names are letters, digits, '.', '_' and '-'; several enrolment sets are joined by +" >&2
    exit 1
  fi
  enroll_sets=${pair%%:*}
  test_set=${pair##*:}
  if [ "${enroll_of[$test_set]:=$enroll_sets}" != "$enroll_sets" ]; then
    echo "$0: trial_sets: $test_set has two enrolment sets, ${enroll_of[$test_set]} and $enroll_sets," \
      "and its scores have one file; copy $data_dir/$test_set under another name for one of them" >&2
    exit 1
  fi
  for data_set in ${enroll_sets//+/ }; do
    others=+$enroll_sets+
    if [[ ${others/"+$data_set+"/+} == *"+$data_set+"* ]]; then
      echo "$0: trial_sets: $pair names the enrolment set $data_set twice" >&2
      exit 1
    fi
  done
  for data_set in ${enroll_sets//+/ } "$test_set"; do
    if [[ " ${data_sets[*]} " != *" $data_set "* ]]; then data_sets+=("$data_set"); fi
  done
  if [[ " ${test_sets[*]} " != *" $test_set "* ]]; then test_sets+=("$test_set"); fi
done
if [ ${#data_sets[@]} = 0 ]; then
  echo "$0: trial_sets is empty; expected <enrolment set>:<test set> ..." >&2
  exit 1
fi
for data_set in $snorm_cohort $submean_set; do   # a part of a set is made with its set
  if [[ " ${data_sets[*]} " != *" $data_set "* && -d $data_dir/$data_set ]]; then
    data_sets+=("$data_set")
  fi
done
if [ "$find_persons $frames" = "true fast" ]; then
  echo "$0: find_persons needs --frames uniform: the key frames of fast are too far apart to tell when; for speed lower --fps" >&2
  exit 1
fi
wrong_modality=
if [ -z "${modalities// /}" ]; then wrong_modality=none; fi
for modality in $modalities; do
  if [ ! -f "steps_$modality/modality.sh" ]; then wrong_modality=$modality; fi
done
if [ -n "$wrong_modality" ]; then
  valid=$(echo steps_*/modality.sh)
  valid=${valid//steps_/}
  echo "$0: modalities: expected one or several of ${valid//\/modality.sh/}, found $wrong_modality" >&2
  exit 1
fi

# Is a test set searched, or are its trials scored? Arguments: test set.
is_search() {
  [ -f "$data_dir/$1/search" ]
}

# Is a test set scored or searched? Not where it has no list for that, and persons are found instead. Arguments: test set.
is_scored() {
  [ "$find_persons" = false ] || [ -f "$data_dir/$1/trials" ] || is_search "$1"
}

# Does a data set show nobody? Only where persons are found: then there may be no portrait. Arguments: data set.
is_empty() {
  [ "$find_persons" = true ] && [ -f "$data_dir/$1/spk2utt" ] && [ ! -s "$data_dir/$1/spk2utt" ]
}

# Stop where a file or folder is not there, and say what makes it. Arguments: file, what to run.
need() {
  if [ ! -e "$1" ]; then
    echo "$0: there is no $1; run $2" >&2
    exit 1
  fi
}

# Get a modality ready: its functions, networks and folders. Arguments: modality, which networks have to be named.
use_modality() {
  local option optional_network="" own_detectors=""
  modality=$1
  # shellcheck source=/dev/null
  . "./steps_$modality/modality.sh"   # may set optional_network and own_detectors
  for option in "${@:2}"; do
    if [ "$option" = "$optional_network" ]; then optional_network=${modality}_$option; fi
    option=${modality}_$option
    [ -v "$option" ] || continue   # a modality may have no such network
    case ${!option} in
      "")
        if [ "$option" = "$optional_network" ]; then continue; fi
        echo "$0: $option is empty; expected the name of an installed network" >&2
        exit 1
        ;;
      */* | *.yaml)
        echo "$0: $option: expected the name of an installed network, found the path '${!option}';" \
          "give the path of a card to stage 0, then use the name $(basename "${!option}" .yaml)" >&2
        exit 1
        ;;
    esac
  done
  option=${modality}_detector
  detector=${!option-}
  detector_network=$detector
  if [[ " $own_detectors " == *" $detector "* ]]; then detector_network=; fi
  option=${modality}_embedder
  embedder=${!option-}
  models_dir=$exp_dir/${modality}_models
  items_dir=$exp_dir/${modality}_det/${detector:-given}
  embed_dir=$exp_dir/${modality}_embed/$embedder
}

# Set `computes_in` to what --precision says. For auto: bf16 for a network whose card notes that it
# passed steps/check_precision.py, on a CPU that has instructions for it; fp32 otherwise.
# It is settled here, not in the jobs, so that all jobs and the record of the set agree.
# Arguments: card; where the CPU is described, /proc/cpuinfo.
set_computes_in() {
  local line found="" card cpu=${2:-/proc/cpuinfo}
  computes_in=$precision
  [ "$precision" = auto ] || return 0
  computes_in=fp32
  if [ "$device" = cpu ] && [[ $engine == @(auto|openvino) && -r $cpu ]]; then
    while read -r line; do
      if [[ $line == flags* ]]; then
        found=$line
        break
      fi
    done < "$cpu"
    read -r -d "" card < "$1" || true   # up to its end
    if [[ $found == *bf16* && $card == *$'\n'bf16_check:* ]]; then computes_in=bf16; fi
  fi
}

# How a step runs its network: sets `launch` (the launcher), `network_args`, `speed_args` and
# `network_inputs`, the files that decide what the network gives (its record also says how it was installed).
# Arguments: name of the network, name and value of its batch option.
use_network() {
  local folder=$models_dir/$1
  need "$folder/record.json" ./run_000_get_pretrained_models.sh
  network_inputs=(--input "$folder/network.onnx" --input "$folder/$1.yaml")
  launch=$cmd
  if [ "$device" != cpu ]; then launch=$cuda_cmd; fi
  set_computes_in "$folder/$1.yaml"
  network_args=(--model "$folder" --engine "$engine" --device "$device" --precision "$computes_in")
  speed_args="--threads $threads"
  if [ "$device" = cpu ] && [ "$engine" != mxnet ]; then
    speed_args+=" $2 $3"
  else
    network_args+=("$2" "$3")   # these engines fill batches up: another size may change the last digits
  fi
}

# Compare a sample with fp32 where another precision is asked for, and fail when they differ too much; once per folder.
# Arguments: folder of the log, arguments of the step that say what to take the sample from.
declare -A precision_checked=()
check_precision() {
  if [[ $precision == @(bf16|fp16) && -z ${precision_checked[$1]-} ]]; then
    make_sets   # the sample may be of those that wait
    $launch "$1/log/precision.log" python steps/check_precision.py \
      "${network_args[@]:0:8}" --threads "$threads" "${@:2}"
    precision_checked[$1]=true
  fi
}

# Call a function with each data set and each of its parts, but those of an empty set. Arguments: function.
each_part() {
  local data_set part
  for data_set in "${data_sets[@]}"; do
    if [ ! -d "$data_dir/$data_set" ]; then
      echo "$0: there is no $data_dir/$data_set; run ./run_001_prepare_data.sh" >&2
      exit 1
    fi
    if is_empty "$data_set"; then continue; fi
    for part in $(parts_of "$data_set"); do
      "$1" "$data_set" "$part"
    done
  done
}

# Note a set that is to be made, by the stage `stage_of_sets`; make_sets makes all that are noted.
# Arguments: those of utils/segment_jobs.py.
stage_of_sets=${VIDPERSON_STAGE-}
sets_to_make=()
add_set() {
  sets_to_make+=(::: --stage "$stage_of_sets" --nj "$nj" --force "$force" "$@")
}
make_sets() {
  if [ ${#sets_to_make[@]} != 0 ]; then
    utils/segment_jobs.py "${sets_to_make[@]}"
    sets_to_make=()
  fi
}

# What the steps of stages 4 and 5 are told of all systems: sets the arrays `system_args`, of those
# that score trials, and `search_args`, of those that search; and `train_trials`, the trial list of
# the calibration set, and `search_calibration`, the set if it is a searched one: the other is empty;
# and `scored_pairs`, those of trial_sets that are scored or searched, `cast_pairs`, those for the cast search,
# and `who_pairs`, those that are asked who is in each video.
system_options() {
  local embedders=() option test_set scored=() searched=() calibration=$calibration_set
  for modality in $modalities; do
    option=${modality}_embedder
    embedders+=("${!option}")
  done
  for test_set in "${test_sets[@]}"; do
    if is_search "$test_set"; then
      searched+=("$test_set")
    elif is_scored "$test_set"; then
      scored+=("$test_set")
    fi
  done
  cast_pairs=()
  scored_pairs=()
  who_pairs=()
  for pair in $trial_sets; do
    if [ "$find_persons" = true ]; then who_pairs+=("$pair"); fi
    if is_scored "${pair##*:}"; then scored_pairs+=("$pair"); fi
    if [ -n "${cast_backends// /}" ] && is_search "${pair##*:}"; then cast_pairs+=("$pair"); fi
  done
  search_calibration=
  if [ -n "$calibration" ] && { is_search "$calibration" || [ ${#scored[@]} = 0 ]; }; then
    search_calibration=$calibration
    calibration=
  fi
  train_trials=${calibration:+$data_dir/$calibration/trials}
  system_args=(--scores-dir "$exp_dir/scores" --experiment "$experiment" --embedders "${embedders[*]}"
    --test-sets "${scored[*]}" --backends "$backends" --thr-ahc "$thr_ahc"
    --submean-set "$submean_set" --snorm-cohort "$snorm_cohort" --cohort-of "$cohort_of"
    --cohort-data "$data_dir/$snorm_cohort" --ncoh-discard "$ncoh_discard"
    --calibration-set "$calibration" --quality-measures "$quality_measures"
    --fusion-systems "$fusion_systems" --fusion-methods "$fusion_methods"
    --max-systems "$max_systems" --primary-cost "$primary_cost")
  if [ -n "$ncoh" ]; then system_args+=(--ncoh "$ncoh"); fi
  search_args=(--scores-dir "$exp_dir/scores" --experiment "$experiment" --embedders "${embedders[*]}"
    --test-sets "${searched[*]}" --search-backends "$search_backends" --identifiers "$identifiers"
    --search-fusion "$search_fusion" --search-top "$search_top" --search-persons "$search_persons"
    --calibration-set "$search_calibration" --false-alarm-rate "$false_alarm_rate")
}

# What they are told of a pair: sets the array `pair_args`. Called after use_modality.
# Arguments: <enrolment set>:<test set>; for a searched test set <enrolment set>+<enrolment set>...:<test set>.
pair_options() {
  local enroll=${1%%:*} test=${1##*:} test_parts
  pair_args=(--modality "$modality" --items-dir "$items_dir" --embed-dir "$embed_dir")
  if is_search "$test"; then
    pair_args+=(--embed-root "$exp_dir/${modality}_embed" --train-root "$exp_dir/${modality}_train"
      --enroll-sets "${enroll//+/ }" --test-set "$test" --data-dir "$data_dir"
      --link-cosine "$link_cosine")
    return
  fi
  if [[ $enroll == *+* ]]; then
    echo "$0: trial_sets: $1: several enrolment sets go with a searched test set only, and there is no" \
      "$data_dir/$test/search; name one enrolment set, or run ./run_001_prepare_data.sh" >&2
    exit 1
  fi
  test_parts=$(parts_of "$test")
  pair_args+=(--enroll-parts "$(parts_of "$enroll")" --enroll-data "$data_dir/$enroll"
    --test-part "${test_parts##* }" --test-data "$data_dir/$test")
}

# What steps/search_cast.py and stage 5 are told of one of the cast_pairs: sets the arrays `cast_args`,
# of all systems of a cast search, and `cast_pair_args`, of the pair. Called after system_options.
# Arguments: <enrolment set>+<enrolment set>...:<test set>.
cast_options() {
  local enroll=${1%%:*} word cues=() embed_dirs
  for modality in $modalities; do
    use_modality "$modality" detector embedder
    embed_dirs=()
    for word in $cast_embedders; do
      case $word in
        "$modality"/?*) embed_dirs+=("$exp_dir/${modality}_embed/${word#*/}") ;;
        *) [[ " $modalities " == *" ${word%%/*} "* && $word == */?* ]] || {
          echo "$0: cast_embedders: expected <modality>/<embedder> with a modality of '$modalities', found '$word'" >&2
          exit 1
        } ;;
      esac
    done
    if [ -z "${cast_embedders// /}" ]; then embed_dirs=("$embed_dir"); fi
    if [ ${#embed_dirs[@]} = 0 ]; then continue; fi
    word=(--cue "$cue" --modality "$modality" --embed-dirs "${embed_dirs[@]}" --items-dir "$items_dir"
      --link-cosine "$link_cosine")
    cues+=("${word[*]@Q}")
  done
  cast_pair_args=(--data-dir "$data_dir" --enroll-sets "${enroll//+/ }" --test-set "${1##*:}" --cues "${cues[@]}")
  cast_args=("${search_args[@]:0:6}" --cast-backends "$cast_backends" --cast-rerank "$cast_rerank"
    --search-top "$search_top" --search-persons "$search_persons")
  if [ -n "$search_calibration" ]; then
    enroll=${enroll_of[$search_calibration]-}
    cast_args+=(--calibration-set "$search_calibration" --calibration-enroll-sets "${enroll//+/ }")
  fi
}

# What steps/find_persons.py and steps/write_answers.py are told of one of the who_pairs: sets the arrays
# `who_args` and `answers_args`. Called after system_options.
# Arguments: <enrolment set>+<enrolment set>...:<test set>.
who_options() {
  local enroll_sets=() enroll_data=() test=${1##*:} sources=() items=() word data_set parts enroll_parts
  word=${1%%:*}
  need "$data_dir/$test" ./run_001_prepare_data.sh
  for data_set in ${word//+/ }; do
    need "$data_dir/$data_set" ./run_001_prepare_data.sh
    if ! is_empty "$data_set"; then
      enroll_sets+=("$data_set")
      enroll_data+=("$data_dir/$data_set")
    fi
  done
  for modality in $modalities; do
    use_modality "$modality" detector embedder
    enroll_parts=()
    for data_set in "${enroll_sets[@]}"; do
      parts=$(parts_of "$data_set")
      enroll_parts+=("${parts%% *}")   # of labelled persons these, not everybody
    done
    parts=$(parts_of "$test")
    word=(--modality "$modality" --embed-dir "$embed_dir" --items-dir "$items_dir" --model "$models_dir/$embedder"
      --cue "$cue" --enroll-parts "${enroll_parts[*]}" --test-part "${parts##* }")
    sources+=("${word[*]@Q}")
    items+=("$modality=$items_dir/${parts##* }")
  done
  answers_args=(--answers "$exp_dir/scores/who/$experiment/${test}_who.jsonl" --test-data "$data_dir/$test"
    --enroll-data "${enroll_data[@]}" --items "${items[@]}")
  who_args=(--sources "${sources[@]}" --data-dir "$data_dir" --enroll-sets "${enroll_sets[*]}" --test-set "$test"
    --fps "$fps" --experiment "$experiment" --scores-dir "$exp_dir/scores" --person-prior "$person_prior"
    --min-probability "$min_probability" --unsure-probability "$unsure_probability")
}

# What stage 5 is told of the answers to all who_pairs: sets the arrays `answers`, a word per pair, and
# `answer_models`, the folders of the networks. Called after system_options.
answer_options() {
  answers=()
  answer_models=()
  for modality in $modalities; do
    use_modality "$modality" detector embedder
    answer_models+=("$models_dir/$detector" "$models_dir/$embedder")
  done
  for pair in "${who_pairs[@]}"; do
    who_options "$pair"
    answers+=("${answers_args[*]@Q}")
  done
}
