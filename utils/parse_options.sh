# shellcheck shell=bash
# Options of a stage script. Sourced by the script, without arguments:
#
#   #!/usr/bin/env bash
#   # What the script does.                <- this comment is the text of --help
#   set -euo pipefail
#   . ./cmd.sh
#   force=false  # true: score all again   <- own options, one `name=value  # comment` a line
#   . ./utils/parse_options.sh
#   . ./path.sh                            (after it: --help needs no environment)
#
# A script that is called with words before the options says which options they set, in this order:
#
#   declare -a po_words=(folder_persons folder_videos)
#
# Precedence: command line > config files > the script > global_conf/defaults.sh.
# --foo-bar 5 or --foo-bar=5 sets foo_bar. Nothing in a value is evaluated.
# --config-file a.sh,b.sh reads a.sh, then b.sh.
#
# Valid options are the script's own and those of global_conf/defaults.sh. A training
# (run_01x_train_*.sh) also has those of global_conf/train_defaults.sh. These files have headings:
#
#   ## Face (stages 2 3)
#   fps=1.0          # [>0] frames per second
#
# `run_002_x.sh --help` shows what is below a heading that names stage 2, or names no stage.
# `--help all` shows all. A heading may name other scripts: `who` is run_who.sh. What is below
# `## Corpus film (stage 1)` is shown where the option `corpora` has film; below `## Body`, where
# there is a folder steps_body, where the option `modalities` has body.
#
# The default, and brackets at the start of the comment, say which values are valid:
#
#   true, false          true and false
#   5                    whole numbers
#   0.5                  numbers
#   [>=1] [>0] [0..1] [>0..1]   numbers in this range
#   [cpu|cuda:N] [energy]   one of these words; N is a whole number
#   [folder]             not empty; slashes at its end are dropped
#   [not empty]          anything else
#
# An option with an empty default may be empty; with a range, it takes whole numbers, too.
#
# Two variables are exported for the records of what is computed. VIDPERSON_OPTIONS has one line
# name='value' for each option, sorted by name. VIDPERSON_STAGE is how the script was called.
#
# All names here begin with po_, because the names of the script's options are not known. The
# usual path starts no process.

. ./utils/signals.sh

po_script=${BASH_SOURCE[1]}
po_stage=${po_script##*/}
po_stage=${po_stage#run_}
po_stage=${po_stage%%[_.]*}     # 2 for run_002_x.sh
[[ ! $po_stage =~ ^[0-9]+$ ]] || po_stage=$((10#$po_stage))
po_names=()                     # all options: the script's own, then those of defaults.sh
declare -A po_comments=() po_headings=() po_defaults=()
declare -A po_kinds=()          # switch, whole, number, words, folder, filled or any
declare -A po_valid=()          # what the brackets hold: a range, or words
po_wants_help=                  # own or all: the options that --help shows

po_fail() {
  trap - EXIT ERR
  echo "$po_script: $*" >&2
  [ -n "$po_wants_help" ] || exit 1
  po_help   # a broken config does not take the help away
  exit 0
}

# Note the options that a file assigns at the start of a line, up to the line that sources this
# file. Arguments: file.
po_scan() {
  local po_line po_name po_heading="" po_lines
  mapfile -t po_lines < "$1"
  for po_line in "${po_lines[@]}"; do
    [[ $po_line != ". "*/parse_options.sh ]] || break
    if [[ $po_line == "## "* ]]; then
      po_heading=${po_line#"## "}
    elif [[ $po_line =~ ^([a-z_][a-z0-9_]*)=(.*)$ ]]; then
      po_name=${BASH_REMATCH[1]}
      po_line=" ${BASH_REMATCH[2]}"
      if [[ ! -v po_headings[$po_name] ]]; then   # a script may have an option of defaults.sh
        po_names+=("$po_name")
        po_headings[$po_name]=$po_heading
      fi
      if [[ -z ${po_comments[$po_name]-} && $po_line == *[[:space:]]"# "* ]]; then
        po_comments[$po_name]=${po_line#*[[:space:]]"# "}
      fi
    fi
  done
}

# Note what an option takes. Its variable has the default. Arguments: name.
po_note_kind() {
  local po_kind=any
  po_defaults[$1]=${!1}
  po_valid[$1]=
  [[ ! ${po_comments[$1]-} =~ ^\[([^]]+)\] ]] || po_valid[$1]=${BASH_REMATCH[1]}
  case ${po_valid[$1]} in
    folder) po_kind=folder ;;
    "not empty") po_kind=filled ;;
    *"|"* | [a-z]*) po_kind=words ;;
    *)
      case ${!1} in
        true | false) po_kind=switch ;;
        "") [ -z "${po_valid[$1]}" ] || po_kind=whole ;;
        *[!0-9.-]*) ;;
        *.*) po_kind=number ;;
        *) po_kind=whole ;;
      esac
      ;;
  esac
  po_kinds[$1]=$po_kind
}

# Set po_millionths to a number times 10^6, since bash compares whole numbers only.
# Arguments: number with up to 12 digits before the point.
po_scale() {
  local po_digits=${1#-} po_fraction=""
  [[ $1 != *.* ]] || po_fraction=${1#*.}
  po_fraction+="000000"
  po_millionths=$((10#${po_digits%%.*}${po_fraction:0:6}))
  [[ $1 != -* ]] || po_millionths=-$po_millionths
}

# Is a number in a range: >0, >=1, 0..1 or >0..1? Empty: any number. Arguments: number, range.
po_is_in_range() {
  local po_millionths po_number po_low=${2%%..*}
  [ -n "$2" ] || return 0
  po_scale "$1"
  po_number=$po_millionths
  po_scale "${po_low##*[>=]}"
  case $po_low in
    ">="*) ((po_number >= po_millionths)) || return 1 ;;
    ">"*) ((po_number > po_millionths)) || return 1 ;;
    *) ((po_number >= po_millionths)) || return 1 ;;
  esac
  if [[ $2 == *..* ]]; then
    po_scale "${2##*..}"
    ((po_number <= po_millionths))
  fi
}

# Is a value one of some words? Arguments: value, words separated by |.
po_is_among() {
  local po_word IFS='|'
  for po_word in $2; do
    # shellcheck disable=SC2053  # it is a pattern
    [[ $1 != ${po_word/%N/+([0-9])} ]] || return 0
  done
  return 1
}

# Refuse an array, and a value that the option does not take. Arguments: where it was set, name.
po_check() {
  local po_value=${!2-} po_range=${po_valid[$2]} po_expected
  local -n po_variable=$2
  if [[ ! -v po_variable || ${po_variable@a} == *[aA]* ]]; then   # an empty array counts as not set
    [[ $(declare -p "$2" 2>&1) == "declare -"[aA]* ]] || po_fail "$1: it unsets $2; write $2="
    po_fail "$1: $2 is an array, of which only the first word would count;" \
      "write $2=\"${po_variable[*]-}\""
  fi
  if [[ -z $po_value && -z ${po_defaults[$2]} ]]; then
    return
  fi
  case ${po_kinds[$2]} in
    any) return ;;
    switch)
      [[ $po_value != true && $po_value != false ]] || return 0
      po_expected="true or false"
      ;;
    whole)
      if [[ $po_value =~ ^(0|-?[1-9][0-9]{0,11})$ ]] && po_is_in_range "$po_value" "$po_range"; then
        return
      fi
      po_expected="a whole number"
      ;;
    number)
      if [[ $po_value =~ ^-?[0-9]{1,12}(\.[0-9]+)?$ ]] && po_is_in_range "$po_value" "$po_range"
      then
        return
      fi
      po_expected="a number"
      ;;
    words)
      ! po_is_among "$po_value" "$po_range" || return 0
      po_expected="one of ${po_range//|/ }"
      ;;
    folder)
      [ -z "$po_value" ] || return 0
      po_expected="a folder"
      ;;
    filled)
      [ -z "$po_value" ] || return 0
      po_expected="a value"
      ;;
  esac
  case $po_range in
    ">="*) po_expected+=" from ${po_range#>=} on" ;;
    ">"*..*)
      po_range=${po_range#>}
      po_expected+=" above ${po_range%%..*} and up to ${po_range##*..}"
      ;;
    ">"*) po_expected+=" above ${po_range#>}" ;;
    *..*) po_expected+=" from ${po_range%%..*} to ${po_range##*..}" ;;
  esac
  po_fail "$1: expected $po_expected for $2, found '$po_value'"
}

# Refuse a config that sets a variable which is no option, and the configs that it sources likewise.
# Arguments: file.
po_check_config() {
  local po_line po_lines po_number=0
  mapfile -t po_lines < "$1"
  for po_line in "${po_lines[@]}"; do
    po_number=$((po_number + 1))
    if [[ $po_line == *$'\r' ]]; then
      po_fail "$1:$po_number: Windows line end (CRLF); run: sed -i 's/\\r\$//' '$1'"
    elif [[ $po_line =~ ^(export[[:space:]]+)?([a-z_][a-z0-9_]*)\+?= ]]; then
      [[ -v po_headings[${BASH_REMATCH[2]}] ]] ||
        po_fail "$1:$po_number: there is no variable '${BASH_REMATCH[2]}'; valid: ${po_names[*]}"
    elif [[ $po_line =~ ^(\.|source)[[:space:]]+[\"\']?([^[:space:]\"\']+) ]]; then
      [ ! -f "${BASH_REMATCH[2]}" ] || po_check_config "${BASH_REMATCH[2]}"
    fi
  done
}

# Set `cpu_cores`, for defaults: the CPU cores that this process may use, as nproc counts them.
po_count_cores() {
  local po_line po_lines=() po_range IFS=','
  cpu_cores=0
  [ ! -r /proc/self/status ] || mapfile -t po_lines < /proc/self/status
  for po_line in "${po_lines[@]}"; do
    [[ $po_line == Cpus_allowed_list:* ]] || continue
    for po_range in ${po_line#*:[[:space:]]}; do   # such as 0-3,8
      cpu_cores=$((cpu_cores + ${po_range#*-} - ${po_range%-*} + 1))
    done
  done
  if ((cpu_cores == 0)); then
    cpu_cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
  fi
}

# Set `experiment` where it is empty, and refuse a name that is no plain file name.
po_name_experiment() {
  local po_config po_name LC_ALL=C
  if [ -z "$experiment" ]; then
    for po_config in "${po_configs[@]}"; do
      po_name=${po_config##*/}
      po_name=${po_name#config_}
      experiment+=${experiment:++}${po_name%.sh}
    done
    experiment=${experiment//[!A-Za-z0-9._+-]/_}
  fi
  if [[ ! $experiment =~ ^[A-Za-z0-9_][A-Za-z0-9._+-]*$ ]]; then
    po_fail "experiment: expected letters, digits, '.', '_', '+' and '-', found '$experiment'"
  fi
}

# Set po_similar to a question for the option that a name was meant to be: of those that differ
# least, the first. Empty where all differ by more than two letters, or a third of the name.
# Arguments: name.
po_find_similar() {
  local po_other po_best="" po_least=$((${#1} / 3 < 2 ? ${#1} / 3 : 2)) po_i po_j po_cost
  local -a po_row po_last po_older
  po_similar=
  for po_other in "${po_names[@]}"; do
    po_i=$((${#1} - ${#po_other}))
    ((${po_i#-} <= po_least)) || continue
    po_row=()
    for ((po_j = 0; po_j <= ${#po_other}; po_j++)); do po_row+=("$po_j"); done
    po_last=()
    for ((po_i = 1; po_i <= ${#1}; po_i++)); do
      po_older=("${po_last[@]}")
      po_last=("${po_row[@]}")
      po_row=("$po_i")
      for ((po_j = 1; po_j <= ${#po_other}; po_j++)); do
        po_cost=1
        [ "${1:po_i-1:1}" != "${po_other:po_j-1:1}" ] || po_cost=0
        po_cost=$((po_last[po_j - 1] + po_cost))
        ((po_last[po_j] + 1 >= po_cost)) || po_cost=$((po_last[po_j] + 1))
        ((po_row[po_j - 1] + 1 >= po_cost)) || po_cost=$((po_row[po_j - 1] + 1))
        if ((po_i > 1 && po_j > 1)) && [ "${1:po_i-2:2}" = "${po_other:po_j-1:1}${po_other:po_j-2:1}" ] &&
          ((po_older[po_j - 2] + 1 < po_cost)); then
          po_cost=$((po_older[po_j - 2] + 1))   # two letters changed places
        fi
        po_row+=("$po_cost")
      done
    done
    if ((po_row[-1] < po_least)) || { [ -z "$po_best" ] && ((po_row[-1] == po_least)); }; then
      po_least=${po_row[-1]}
      po_best=$po_other
    fi
  done
  [ -z "$po_best" ] || po_similar="; did you mean --${po_best//_/-}?"
}

po_help() {
  local po_name po_text po_comment po_heading po_title=""
  sed -n '2,${/^#/!q; /^# shellcheck /d; s/^# \{0,1\}//; p}' "$po_script"
  printf '\nOptions, with their values by default and in %s:\n' "$config_file"
  for po_name in "${po_names[@]}"; do
    po_heading=${po_headings[$po_name]}
    if [[ $po_heading =~ ^(.*)" ("stages?" "(.*)")"$ ]]; then
      po_heading=${BASH_REMATCH[1]}
      if [[ $po_wants_help != all && " ${BASH_REMATCH[2]} " != *" $po_stage "* ]]; then
        continue
      fi
    fi
    if [[ $po_wants_help != all && $po_heading == "Corpus "* ]]; then
      [[ " ${corpora-} " == *" ${po_heading#* } "* ]] || continue
    elif [[ $po_wants_help != all && -d steps_${po_heading,,} ]]; then
      [[ " ${modalities-} " == *" ${po_heading,,} "* ]] || continue
    fi
    if [ "$po_heading" != "$po_title" ]; then
      po_title=$po_heading
      echo "$po_title"
    fi
    po_text="--${po_name//_/-} ${!po_name:-\"\"}"
    if ((${#po_text} > 98)); then
      po_text=${po_text:0:95}...
    fi
    if ((${#po_text} > 30)); then
      printf '  %s\n' "$po_text"
      po_text=
    fi
    po_comment=${po_comments[$po_name]-}
    po_comment=${po_comment#"[folder] "}
    printf '  %-30s  %s\n' "$po_text" "${po_comment#"[not empty] "}"
  done
  if [ $po_wants_help = own ]; then
    echo "Options of other stages, corpora and modalities are valid, too: --help all shows them."
  fi
}

# Defaults, and over them the values that the script has set.
po_scan "$po_script"
declare -A po_own=()
for po_name in "${po_names[@]}"; do
  po_own[$po_name]=${!po_name}
done
po_count_cores
. ./global_conf/defaults.sh
po_scan global_conf/defaults.sh
if [[ ${po_script##*/} == run_*_train_* ]]; then
  . ./global_conf/train_defaults.sh
  po_scan global_conf/train_defaults.sh
fi
for po_name in "${!po_own[@]}"; do
  printf -v "$po_name" %s "${po_own[$po_name]}"
done
for po_name in "${po_names[@]}"; do
  po_note_kind "$po_name"
done

# What the command line sets: kept until the configs have been read.
declare -A po_given=()
po_args=("$@")
po_word=0
for ((po_index = 0; po_index < ${#po_args[@]}; po_index++)); do
  po_arg=${po_args[po_index]}
  po_option=${po_arg%%=*}
  po_name=${po_option#--}
  po_name=${po_name//-/_}
  if [[ $po_arg == --help || $po_arg == -h ]]; then
    po_wants_help=own
    if [ "${po_args[po_index + 1]:-}" = all ]; then
      po_wants_help=all
      po_index=$((po_index + 1))
    fi
  elif [[ $po_arg != --?* && -v po_words[po_word] && po_index -eq po_word ]]; then
    po_given[${po_words[po_word]}]=$po_arg
    po_word=$((po_word + 1))
  elif [[ $po_arg != --?* ]]; then
    if [ -v po_words ]; then
      po_fail "expected options, found '$po_arg'; first come ${#po_words[@]} names, then options;" \
        "a name with blanks needs quotes"
    fi
    po_fail "expected options, found '$po_arg'; --help shows how it is called"
  elif [[ ! $po_name =~ ^[a-z0-9_]+$ || ! -v po_headings[$po_name] ]]; then
    po_all=("${po_names[@]/#/--}")
    po_find_similar "$po_name"
    po_fail "unknown option $po_option; valid: ${po_all[*]//_/-} --help$po_similar"
  elif [[ $po_arg == *=* ]]; then
    po_given[$po_name]=${po_arg#*=}
  else
    po_index=$((po_index + 1))
    if [[ $po_index -ge ${#po_args[@]} || ${po_args[po_index]} == --* ]]; then
      [ "${po_kinds[$po_name]}" != switch ] ||
        po_fail "option $po_option lacks its value; write $po_option true, or $po_option false"
      po_fail "option $po_option lacks its value;" \
        "one that starts with -- is given as $po_option=--..."
    fi
    po_given[$po_name]=${po_args[po_index]}
  fi
done

# The configs, one after the other. The traps tell that a config stopped. Without them the stage
# would end without a word, and with status 0 after `exit 0`.
po_given[config_file]=${po_given[config_file]-$config_file}
config_file=${po_given[config_file]}
po_check "command line" config_file
po_configs=()
po_rest=$config_file,
while [ -n "$po_rest" ]; do
  po_config=${po_rest%%,*}
  po_rest=${po_rest#*,}
  if [ ! -f "$po_config" ]; then
    po_fail "no config '$po_config'; there are: $(echo global_conf/config_*.sh)"
  fi
  po_check_config "$po_config"
  if [[ $po_config != */* ]]; then
    po_config=./$po_config   # not one of PATH
  fi
  po_configs+=("$po_config")
  # shellcheck disable=SC2329  # a config may call it
  exec() { po_fail "$po_config: a config sets variables; it cannot replace the stage (exec)"; }
  trap 'po_fail "$po_config: the config ended the stage; remove its exit, or fix the error"' EXIT
  # not `. "$po_config" || ...`: the config would continue after a command that failed
  trap 'po_fail "$po_config: the last command it ran gave status $?;" \
    "write a condition as if ...; then ...; fi"' ERR
  # shellcheck source=/dev/null
  . "$po_config"
  trap - EXIT ERR
  unset -f exec
  set -euo pipefail   # whatever the config has set
  for po_name in "${po_names[@]}"; do
    po_check "$po_config" "$po_name"
  done
done

for po_name in "${!po_given[@]}"; do
  printf -v "$po_name" %s "${po_given[$po_name]}"
  po_check "command line" "$po_name"
done
if [[ -v po_headings[experiment] ]]; then
  po_name_experiment
fi
if [ -n "$po_wants_help" ]; then
  po_help
  exit 0
fi

# ${!po_of_*} lists the names sorted.
VIDPERSON_OPTIONS=
po_quote="'\\''"
for po_name in "${po_names[@]}"; do
  if [ "${po_kinds[$po_name]}" = folder ]; then   # finished sets are compared by their paths, too
    while [[ ${!po_name} == ?*/ ]]; do
      printf -v "$po_name" %s "${!po_name%/}"
    done
  fi
  printf -v "po_of_$po_name" %s "${!po_name}"
done
for po_name in "${!po_of_@}"; do
  VIDPERSON_OPTIONS+="${po_name#po_of_}='${!po_name//\'/$po_quote}'"$'\n'
done
VIDPERSON_OPTIONS=${VIDPERSON_OPTIONS%$'\n'}
VIDPERSON_STAGE=$po_script
export VIDPERSON_OPTIONS VIDPERSON_STAGE
