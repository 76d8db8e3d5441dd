# shellcheck shell=bash
# The environment of every script. Source it from the repository root: . ./path.sh
#
# The first time it makes .venv from requirements/base.txt (some minutes, needs the network); when the pins
# change it brings .venv up to date; otherwise it only sets variables, runs no pip and needs no network.
#
#   VIDPERSON_EXTRAS="demo torch dev"   also install requirements/<extra>.txt; an extra once installed stays
#   VIDPERSON_EXTRAS=mxnet              also make .venv-mxnet, for the engine mxnet; VIDPERSON_MXNET=mxnet-cu102 for GPUs
#   VIDPERSON_MXNET_PYTHON=/some/bin/python   the interpreter that has MXNet, in place of .venv-mxnet
#   VIDPERSON_PYTHON=/some/bin/python   use this interpreter and its packages as they are; nothing is made
#
# LC_ALL is a UTF-8 locale because names of files and persons are UTF-8. All lists are in the order of the
# C locale (bytes): a script that sorts says so itself, `LC_ALL=C sort`.

if ! [ . -ef "$(dirname "${BASH_SOURCE[0]}")" ]; then
  echo "path.sh: run the recipe's scripts from the repository root: cd '$(dirname "${BASH_SOURCE[0]}")'" >&2
  return 1
fi

case $PWD in
  *:*)
    echo "path.sh: expected no ':' in the repository's path, since it separates folders in PATH, found '$PWD';" \
      "rename the folder" >&2
    return 1
    ;;
esac

export LC_ALL=C.UTF-8
export PYTHONPATH=$PWD/utils/lib   # has links to our packages only: your own numpy.py, here, hides no other
export PYTHONSAFEPATH=1            # nor does it with python -m and python -c
unset PYTHONOPTIMIZE PYTHONHOME PYTHONSTARTUP   # of yours; they would take help texts, or modules, away
export ORT_DISABLE_TELEMETRY=${ORT_DISABLE_TELEMETRY:-1}   # else ONNX Runtime reports its use to Microsoft
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}   # one thread per job: parallelism comes from the jobs (nj)

# Sourced twice, or with the other interpreter than last time: the folders stand on PATH once.
PATH=:$PATH:
PATH=${PATH//":$PWD/utils/bin:"/:}
PATH=${PATH//":$PWD/.venv/bin:"/:}
PATH=${PATH#:} PATH=${PATH%:}

if [ -n "${VIDPERSON_PYTHON:-}" ]; then
  VIDPERSON_PYTHON=$(utils/check_python.sh "$VIDPERSON_PYTHON") || return 1
  export VIDPERSON_PYTHON
  export PATH=$PWD/utils/bin:$PATH   # its `python` runs $VIDPERSON_PYTHON
else
  # shellcheck disable=SC2086  # a list of words
  utils/make_env.sh ${VIDPERSON_EXTRAS:-} || return 1
  export PATH=$PWD/.venv/bin:$PATH
fi
