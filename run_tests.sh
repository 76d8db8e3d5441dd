#!/usr/bin/env bash
# Every check of CI: ruff, mypy, shellcheck, pytest. Makes the environment first where there is none.
#
#   ./run_tests.sh
#
# Tests that need real videos and networks look for them in VIDPERSON_SHARED. Without it they skip
# and say so.
set -euo pipefail
case "${1:-}" in
  "") ;;
  -h | --help)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
    exit 0
    ;;
  *)
    echo "$0: unknown option '$1'; it takes none but --help" >&2
    exit 1
    ;;
esac
exec make check
