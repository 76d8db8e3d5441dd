#!/usr/bin/env bash
# Make .venv from the pins of requirements/, or bring it up to date; quick when there is nothing to do.
#
# Usage: utils/make_env.sh [<extra> ...]      extras: demo torch dev, as in requirements/<extra>.txt
# Run from the repository root; path.sh does it. An extra that is installed already stays.
#
# .venv/stamp says what .venv holds: the names of the pin files, then the place, the interpreter's version and
# the sha256 of the pins. While .venv is being changed the file is called .venv/making; found later, it tells
# that somebody was killed at it, and .venv is made anew. .venv.lock lets one shell at a time do it.
set -euo pipefail

say() { echo "utils/make_env.sh: $*" >&2; }

# The second line of the stamp for these pin files.
stamp_of() {
  local version pins name
  version=$(.venv/bin/python -V 2>/dev/null) || return 1
  pins=$(for name in "$@"; do cat "requirements/$name.txt"; done 2>/dev/null | sha256sum) || return 1
  echo "$PWD $version ${pins%% *}"
}

# Does .venv hold these pin files, as they are now?
is_ready() {
  local have stamp name
  [ -f .venv/stamp ] && { read -r have && read -r stamp; } < .venv/stamp || return 1
  for name in "$@"; do
    case " $have " in *" $name "*) ;; *) return 1 ;; esac
  done
  # shellcheck disable=SC2086  # a list of words
  [ "$(stamp_of $have)" = "$stamp" ]
}

# Can packages be put into .venv as it stands? One that an editor made may be.
is_sound() {
  [ ! -e .venv/making ] || return 1
  .venv/bin/python -m pip --version > /dev/null 2>&1 || return 1
  .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || return 1
  [ ! -f .venv/stamp ] || [[ $(sed -n 2p .venv/stamp) == "$PWD $(.venv/bin/python -V) "* ]]
}

# The first interpreter that is new enough and really runs (a version manager's shim may not), its links
# resolved: a system upgrade to another minor version then leaves .venv without interpreter, not mixed up.
find_python() {
  local name
  for name in python3 python3.14 python3.13 python3.12 python3.11; do
    "$name" -c 'import os, sys
sys.version_info >= (3, 11) or sys.exit(1)
print(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))' 2>/dev/null && return
  done
  say "no Python 3.11 or newer among python3 python3.14 python3.13 python3.12 python3.11;" \
    "install one, or set VIDPERSON_PYTHON to an interpreter that has the packages of requirements/"
  return 1
}

for extra in "$@"; do
  if [ ! -f "requirements/$extra.txt" ]; then
    say "unknown extra '$extra'; valid: demo torch dev"
    exit 1
  fi
done
is_ready base "$@" && exit 0

exec 9> .venv.lock
flock 9
is_ready base "$@" && exit 0             # another shell made it while this one waited

names=base
for name in "$@" $(head -qn 1 .venv/stamp .venv/making 2>/dev/null); do
  case " $names " in *" $name "*) continue ;; esac
  [ ! -f "requirements/$name.txt" ] || names+=" $name"
done
say "installing requirements ($names) into .venv; this takes some minutes, once"
if is_sound; then
  rm -f .venv/stamp
  echo "$names" > .venv/making
else
  python=$(find_python)
  rm -rf .venv
  mkdir .venv
  echo "$names" > .venv/making
  "$python" -m venv .venv >&2 || { say "$python cannot make environments; on Debian: apt install python3-venv"; exit 1; }
fi

pins=()
for name in $names; do
  pins+=(-r "requirements/$name.txt")
done
.venv/bin/python -m pip install --disable-pip-version-check "${pins[@]}" >&2 ||
  { say "the installation failed, see above; run the script again when the cause is mended"; exit 1; }

# shellcheck disable=SC2086  # a list of words
stamp_of $names >> .venv/making
mv .venv/making .venv/stamp
