# shellcheck shell=bash
# A stage that is ended by INT, TERM or HUP ends its jobs. Source it first of all:
#
#   . ./utils/signals.sh
#
# Bash passes no signal on to the command that it waits for. So the script is run again, below
# utils/guard.py, which has its process id and its process group, and passes signals on.
# Signals that are ignored, as HUP is after nohup, stay ignored.

if [ "${VIDPERSON_GUARD:-}" != $PPID ]; then
  guard_python=${VIDPERSON_PYTHON:-.venv/bin/python}
  type -P "$guard_python" > /dev/null || guard_python=python3   # the environment is made later
  exec "$guard_python" -I -S utils/guard.py "$BASH" "$0" "$@"
fi
unset VIDPERSON_GUARD
# Ctrl-C reaches this shell, too, which would go on where its command ends as if nothing had happened.
trap 'trap - INT; kill -INT $$' INT
