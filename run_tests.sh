#!/usr/bin/env bash
# Every check that CI makes: ruff, mypy, shellcheck, pytest. Makes the environment first where there is none.
# Usage, from the repository root: ./run_tests.sh
# Tests that need real videos and networks look for them in VIDPERSON_SHARED and skip, saying so, without it.
set -euo pipefail
exec make check
