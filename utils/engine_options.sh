# shellcheck shell=bash disable=SC2034,SC2154  # variables of the stage that sources it, and of utils/parse_options.sh
# How a stage runs its network. Sourced after path.sh, when `model` is the folder of the installed network:
#
#   . ./utils/engine_options.sh --det-batch "$det_batch"
#
# Sets `launch` (the launcher), `run` (arguments of the step), `speed_args` and `inputs` (for utils/segment_jobs.py).

launch=$cmd
[ "$device" = cpu ] || launch=$cuda_cmd
run=(--model "$model" --engine "$engine" --device "$device" --precision "$precision")
speed_args="--threads $threads"
inputs=(--input "$model/installed.json")
if [ "$device" = cpu ] && [ "$engine" != mxnet ]; then
  speed_args+=" $1 $2"
else
  run+=("$1" "$2")   # these engines fill batches up to this size, and another size may change the last digits
fi
if [ "$engine" = auto ] && [ "$device" = cpu ]; then
  for choice in cpu_engine.json engines.json; do   # the first that is there decides which engine is taken
    [ ! -f "$model/$choice" ] || { inputs+=(--input "$model/$choice"); break; }
  done
fi

# Compare a sample with fp32, where the precision is another one, and fail when they differ too much.
# Arguments: folder of the log, arguments of the step that say what to take the sample of.
check_precision() {
  local folder=$1
  shift
  [ "$precision" = fp32 ] || $launch "$folder/log/precision.log" python steps/check_precision.py \
    --model "$model" --engine "$engine" --device "$device" --precision "$precision" --threads "$threads" "$@"
}
