#!/usr/bin/env bash
# Make .venv from the pins of requirements/, or bring it up to date; quick when there is nothing to do.
#
# Usage: utils/make_env.sh [<extra> ...]      extras: demo torch dev, as in requirements/<extra>.txt; mxnet, bench
# Run from the repository root; path.sh does it. An extra that is installed already stays.
#
# The extra mxnet is no part of .venv: MXNet needs an old numpy and Python 3.8 to 3.11, and gets .venv-mxnet. Its
# package is mxnet, for the CPU, or mxnet-cu102, for GPUs up to CUDA 10.2: VIDPERSON_MXNET names it, else the one that
# is there stays.
#
# .venv/stamp says what .venv holds: the names of the pin files, then the place, the interpreter's version and
# the sha256 of the pins. While .venv is being changed the file is called .venv/making; found later, it tells
# that somebody was killed at it, and .venv is made again. .venv.lock lets one shell at a time do it. The same goes
# for .venv-bench, and for .venv-mxnet: its stamp has the name of the package instead.
set -euo pipefail

place=$(pwd -P)      # one name, also where the folder is entered by a link
env=.venv            # the environment that is being looked after
first=base           # what it holds at least
oldest=11 newest=99  # Python 3.<oldest> to 3.<newest>

say() { echo "utils/make_env.sh: $*" >&2; }

# The pins of this name; the packages of MXNet share a file.
pins_of() {
  case $1 in
    mxnet*) sed "s/^mxnet==/$1==/" requirements/mxnet.txt ;;
    *) cat "requirements/$1.txt" ;;
  esac
}

# The second line of the stamp for these pin files.
stamp_of() {
  local version pins name
  version=$("$env/bin/python" -V 2>/dev/null) || return 1
  pins=$(for name in "$@"; do pins_of "$name"; done 2>/dev/null | sha256sum) || return 1
  echo "$place $version ${pins%% *}"
}

# Does the environment hold these pin files, as they are now?
is_ready() {
  local have stamp name
  [ -f "$env/stamp" ] && { read -r have && read -r stamp; } < "$env/stamp" || return 1
  for name in "$@"; do
    case " $have " in *" $name "*) ;; *) return 1 ;; esac
  done
  # shellcheck disable=SC2086  # a list of words
  [ "$(stamp_of $have)" = "$stamp" ]
}

# Can packages be put into the environment as it stands? One that an editor made may be.
is_sound() {
  [ ! -e "$env/making" ] || return 1
  "$env/bin/python" -m pip --version > /dev/null 2>&1 || return 1
  "$env/bin/python" -c "import sys; sys.exit(not (3, $oldest) <= sys.version_info[:2] <= (3, $newest))" || return 1
  [ ! -f "$env/stamp" ] || [[ $(sed -n 2p "$env/stamp") == "$place $("$env/bin/python" -V) "* ]]
}

# The first interpreter that will do and really runs (a version manager's shim may not), its links resolved:
# a system upgrade to another minor version then leaves the environment without interpreter, not mixed up.
find_python() {
  local tried=(python3) minor name
  for ((minor = newest < 14 ? newest : 14; minor >= oldest; minor--)); do
    tried+=("python3.$minor")
  done
  for name in "${tried[@]}"; do
    "$name" -c "import os, sys
(3, $oldest) <= sys.version_info[:2] <= (3, $newest) or sys.exit(1)
print(os.path.realpath(getattr(sys, '_base_executable', sys.executable)))" 2>/dev/null && return
  done
  if [ "$env" = .venv-mxnet ]; then
    say "no Python 3.$oldest to 3.$newest among ${tried[*]}; MXNet runs on no other;" \
      "install one, or set VIDPERSON_MXNET_PYTHON to an interpreter that has MXNet, or use another engine"
  else
    say "no Python 3.$oldest or newer among ${tried[*]};" \
      "install one, or set VIDPERSON_PYTHON to an interpreter that has the packages of requirements/"
  fi
  return 1
}

extras=()
apart=()   # extras that get an environment of their own
for extra in "$@"; do
  case $extra in
    mxnet | bench) apart+=("$extra") ;;
    *)
      if [ ! -f "requirements/$extra.txt" ]; then
        say "unknown extra '$extra'; valid: demo torch dev mxnet bench"
        exit 1
      fi
      extras+=("$extra")
      ;;
  esac
done
if [ ${#apart[@]} != 0 ] && [ $# -gt 1 ]; then
  "$0" "${extras[@]}"
  for extra in "${apart[@]}"; do
    "$0" "$extra"
  done
  exit 0
fi
case ${apart[0]-} in
  mxnet)
    env=.venv-mxnet oldest=8 newest=11
    first=${VIDPERSON_MXNET:-$(cat $env/stamp $env/making 2>/dev/null | sed -n 1p || true)}
    first=${first:-mxnet}
    case $first in
      mxnet | mxnet-cu102) ;;
      *) say "VIDPERSON_MXNET: expected mxnet or mxnet-cu102, found '$first'"; exit 1 ;;
    esac
    ;;
  bench) env=.venv-bench first=bench ;;
esac
is_ready "$first" "${extras[@]}" && exit 0

exec 9> .venv.lock
flock 9
is_ready "$first" "${extras[@]}" && exit 0             # another shell made it while this one waited

names=$first
[ ${#apart[@]} != 0 ] || for name in "${extras[@]}" $(head -qn 1 .venv/stamp .venv/making 2>/dev/null); do
  case " $names " in *" $name "*) continue ;; esac
  [ ! -f "requirements/$name.txt" ] || names+=" $name"
done
say "installing requirements ($names) into $env; this takes some minutes, once"
# The packages of MXNet would overwrite each other's files.
if is_sound && { [ ${#apart[@]} = 0 ] || [ "$(head -qn 1 $env/stamp 2>/dev/null)" = "$first" ]; }; then
  rm -f "$env/stamp"
  echo "$names" > "$env/making"
else
  python=$(find_python)
  rm -rf "$env"
  mkdir "$env"
  echo "$names" > "$env/making"
  "$python" -m venv "$env" >&2 || { say "$python cannot make environments; on Debian: apt install python3-venv"; exit 1; }
fi

pins=()
for name in $names; do
  case $name in
    mxnet*) pins_of "$name" > "$env/requirements.txt" && pins+=(-r "$env/requirements.txt") ;;
    *) pins+=(-r "requirements/$name.txt") ;;
  esac
done
"$env/bin/python" -m pip install --disable-pip-version-check "${pins[@]}" >&2 ||
  { say "the installation failed, see above; run the script again when the cause is fixed"; exit 1; }

# shellcheck disable=SC2086  # a list of words
stamp_of $names >> "$env/making"
mv "$env/making" "$env/stamp"
