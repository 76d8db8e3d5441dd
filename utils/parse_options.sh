# shellcheck shell=bash
# Options of a stage script: defaults < config < command line. Sourced by the script, without arguments:
#
#   #!/usr/bin/env bash
#   # What the script does.                 <- this comment is the text of --help
#   set -euo pipefail
#   . ./cmd.sh
#   stage=1        # first part to run      <- own options, one `name=value  # comment` a line
#   . ./utils/parse_options.sh
#   . ./path.sh                             (after it, so that --help works before there is an environment)
#
# Valid options are the script's own and the variables of global_conf/defaults.sh; --foo-bar 5 or --foo-bar=5
# sets foo_bar. Values are taken as they are, nothing in them is evaluated; only data_dir
# and exp_dir lose slashes at their ends. The script's own values win over
# defaults.sh, the config (--config-file) wins over both, the command line over all. Where the default is
# true or false, or a number, nothing else is taken. Afterwards `save_settings <file>` writes all options.
#
# Everything here is called po_..., since nobody knows the names of the script's options.

. ./utils/signals.sh

po_script=${BASH_SOURCE[1]}
po_names=()                              # all options: the script's own, then those of defaults.sh
declare -A po_comments=() po_kinds=()

po_fail() {
  echo "$po_script: $*" >&2
  exit 1
}

# Sets po_found to the names that a file assigns at the start of a line, and keeps their comments.
# Arguments: file, pattern of the line at which to stop.
po_scan() {
  local po_line
  po_found=()
  while IFS= read -r po_line || [ -n "$po_line" ]; do
    # shellcheck disable=SC2053  # it is a pattern
    [[ $po_line != $2 ]] || break
    [[ $po_line =~ ^([a-z_][a-z0-9_]*)=(.*)$ ]] || continue
    po_found+=("${BASH_REMATCH[1]}")
    [[ ! " ${BASH_REMATCH[2]}" =~ [[:space:]]'# '(.*)$ ]] || po_comments[${po_found[-1]}]=${BASH_REMATCH[1]}
  done < "$1"
}

# Numbers that count something: half a job would fail far from here, and 08 is no number to bash, 010 eight.
po_whole=" nj stage stop_stage threads max_size det_batch min_faces max_pixels embed_batch ncoh ncoh_discard max_systems"
po_whole+=" train_embedding_size train_sub_centres train_batch train_epochs train_decay_epochs train_gpus train_processes"
po_whole+=" train_workers train_threads train_seed train_valid_epochs train_save_steps train_held_out "

# Is it of this kind? Arguments: value, kind.
po_is() {
  case $2 in
    "true or false") [[ $1 == true || $1 == false ]] ;;
    "a number") [[ $1 =~ ^-?[0-9]+(\.[0-9]+)?$ ]] ;;
    "a whole number") [[ $1 =~ ^(0|-?[1-9][0-9]*)$ ]] ;;
  esac
}

# The kind of an option; empty: anything. Arguments: name, default.
po_kind_of() {
  if po_is "$2" "true or false"; then
    echo "true or false"
  elif po_is "$2" "a number"; then
    [[ $po_whole == *" $1 "* ]] && echo "a whole number" || echo "a number"
  fi
}

# Refuse arrays and values that are not of their default's kind. Arguments: where they were set, names.
po_check_values() {
  local po_name
  for po_name in "${@:2}"; do
    if [[ $(declare -p "$po_name") == "declare -"[aA]* ]]; then
      local -n po_array=$po_name
      po_fail "$1: $po_name is an array, of which only the first word would count; write $po_name=\"${po_array[*]}\""
    fi
    [ -z "${po_kinds[$po_name]}" ] || po_is "${!po_name}" "${po_kinds[$po_name]}" ||
      po_fail "$1: expected ${po_kinds[$po_name]} for $po_name, found '${!po_name}'"
  done
}

# Refuse a config that sets a variable which is no option, and the configs that it sources likewise.
# Arguments: file.
po_check_config() {
  local po_line po_number=0
  while IFS= read -r po_line || [ -n "$po_line" ]; do
    po_number=$((po_number + 1))
    [[ $po_line != *$'\r' ]] || po_fail "$1:$po_number: Windows line end (CRLF); run: sed -i 's/\\r\$//' '$1'"
    if [[ $po_line =~ ^(export[[:space:]]+)?([a-z_][a-z0-9_]*)\+?= ]]; then
      [[ " ${po_names[*]} " == *" ${BASH_REMATCH[2]} "* ]] ||
        po_fail "$1:$po_number: there is no variable '${BASH_REMATCH[2]}'; valid: ${po_names[*]}"
    elif [[ $po_line =~ ^(\.|source)[[:space:]]+[\"\']?([^[:space:]\"\']+) && -f ${BASH_REMATCH[2]} ]]; then
      po_check_config "${BASH_REMATCH[2]}"
    fi
  done < "$1"
}

po_help() {
  local po_name po_text
  sed -n '2,${/^#/!q; /^# shellcheck /d; s/^# \{0,1\}//; p}' "$po_script"
  printf '\nOptions, with their values by default and in %s:\n' "$config_file"
  for po_name in "${po_names[@]}"; do
    po_text="--${po_name//_/-} ${!po_name:-\"\"}"
    [ ${#po_text} -le 38 ] || po_text+=$'\n'"$(printf '  %-38s' '')"
    printf '  %-38s  %s\n' "$po_text" "${po_comments[$po_name]:-}"
  done
}

# Write all options as name='value' lines, sorted by name. Arguments: file.
save_settings() {
  local po_name po_quote="'\\''"
  mkdir -p "$(dirname "$1")"
  for po_name in $(printf '%s\n' "${po_names[@]}" | LC_ALL=C sort); do
    printf "%s='%s'\n" "$po_name" "${!po_name//\'/$po_quote}"
  done > "$1.tmp"
  mv "$1.tmp" "$1"
}

# Defaults, and over them the values that the script has set already.
po_scan global_conf/defaults.sh ''$'\n'
po_defaults=("${po_found[@]}")
po_scan "$po_script" '*utils/parse_options.sh*'
po_names=("${po_found[@]}")
declare -A po_own=()
for po_name in "${po_found[@]}"; do
  po_own[$po_name]=${!po_name}
done
. ./global_conf/defaults.sh
for po_name in "${!po_own[@]}"; do
  printf -v "$po_name" %s "${po_own[$po_name]}"
done
for po_name in "${po_defaults[@]}"; do
  [[ -v po_own[$po_name] ]] || po_names+=("$po_name")
done
for po_name in "${po_names[@]}"; do
  po_kinds[$po_name]=$(po_kind_of "$po_name" "${!po_name}")
done

# What the command line sets: kept until the config has been read.
declare -A po_given=()
po_wants_help=false
po_args=("$@")
for ((po_index = 0; po_index < ${#po_args[@]}; po_index++)); do
  po_arg=${po_args[po_index]}
  po_option=${po_arg%%=*}
  po_name=${po_option#--}
  po_name=${po_name//-/_}
  if [[ $po_arg == --help || $po_arg == -h ]]; then
    po_wants_help=true
  elif [[ $po_arg != --?* ]]; then
    po_fail "expected options, found '$po_arg'; --help shows how it is called"
  elif [[ $po_name =~ [^a-z0-9_] || " ${po_names[*]} " != *" $po_name "* ]]; then
    po_all=("${po_names[@]/#/--}")
    po_fail "unknown option $po_option; valid: ${po_all[*]//_/-} --help"
  elif [[ $po_arg == *=* ]]; then
    po_given[$po_name]=${po_arg#*=}
  else
    po_index=$((po_index + 1))
    [[ $po_index -lt ${#po_args[@]} && ${po_args[po_index]} != --* ]] ||
      po_fail "option $po_option lacks its value; one that starts with -- is given as $po_option=--..."
    po_given[$po_name]=${po_args[po_index]}
  fi
done

config_file=${po_given[config_file]-$config_file}
[ -f "$config_file" ] || po_fail "no config '$config_file'; there are: $(echo global_conf/config_*.sh)"
po_check_config "$config_file"
case $config_file in */*) ;; *) config_file=./$config_file ;; esac   # not one that lies on PATH
po_given[config_file]=$config_file
# not `. "$config_file" || ...`, with which the config would go on behind a command that failed
trap 'po_fail "$config_file: the last command it ran gave status $?; write a condition as if ...; then ...; fi"' ERR
# shellcheck source=/dev/null
. "$config_file"
trap - ERR
po_check_values "$config_file" "${po_names[@]}"
for po_name in "${!po_given[@]}"; do
  printf -v "$po_name" %s "${po_given[$po_name]}"
done
po_check_values "command line" "${!po_given[@]}"
for po_name in "${po_names[@]}"; do   # exp/ is exp: finished sets are compared by the paths, too
  [[ $po_name == data_dir || $po_name == exp_dir ]] || continue
  while [[ ${!po_name} == ?*/ ]]; do
    printf -v "$po_name" %s "${!po_name%/}"
  done
done
if $po_wants_help; then
  po_help
  exit 0
fi
