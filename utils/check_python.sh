#!/usr/bin/env bash
# Is this interpreter fit to run the recipe with the packages that it has? path.sh asks for VIDPERSON_PYTHON.
#
# Usage: utils/check_python.sh <interpreter>
# Output: its absolute path. Exit status 1, with what is missing, when it is not fit.
# VIDPERSON_EXTRAS, as for path.sh, asks for the packages of the extras too.
set -euo pipefail

fail() { echo "VIDPERSON_PYTHON=$1: $2" >&2; exit 1; }

[ $# -eq 1 ] || { echo "Usage: utils/check_python.sh <interpreter>" >&2; exit 1; }
path=$(type -P -- "$1") || fail "$1" "no such program"
case $path in /*) ;; *) path=$PWD/$path ;; esac

modules="numpy av cv2 kaldiio orjson yaml matplotlib"   # not the engines: the one that is asked for says when it is missing
for extra in ${VIDPERSON_EXTRAS:-}; do
  case $extra in
    demo) modules+=" skimage" ;;
    torch) modules+=" torch onnx onnxscript" ;;
    dev) modules+=" pytest hypothesis ruff mypy kaldi_native_io" ;;
    mxnet) ;;   # has an interpreter of its own: VIDPERSON_MXNET_PYTHON
    *) fail "$1" "unknown extra '$extra' in VIDPERSON_EXTRAS; valid: demo torch dev mxnet" ;;
  esac
done
# shellcheck disable=SC2086  # a list of words
problem=$("$path" -c '
import sys
if sys.version_info < (3, 11):
    print("Python %d.%d is too old, 3.11 or newer is needed" % sys.version_info[:2])
else:
    from importlib.util import find_spec
    missing = [name for name in sys.argv[1:] if find_spec(name) is None]
    if missing:
        print("cannot import %s; install what requirements/ pins, or unset the variable" % ", ".join(missing))
' $modules) || fail "$1" "it does not run"
[ -z "$problem" ] || fail "$1" "$problem"
echo "$path"
