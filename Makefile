# `make check` is what CI runs. path.sh gives every command the environment, with these extras.
export VIDPERSON_EXTRAS = demo torch dev
SHELL = bash
ENV = . ./path.sh &&
SCRIPTS = $(shell git ls-files -co --exclude-standard | xargs grep -lsE '^\#(! */.*[/ ]bash$$| shellcheck shell=bash)')

.PHONY: check lint types shell test

check: lint types shell test

lint:
	$(ENV) python -m ruff check

types:
	$(ENV) python -m mypy vidperson steps steps_face local benchmarks utils

shell:
	$(ENV) shellcheck -x $(SCRIPTS)

# Each file of training tests has a process of its own: torch's training crashed, rarely, in one that had loaded PyAV, OpenCV,
# OpenVINO, ONNX Runtime and Kaldi's reader before.
test:
	[ -n "$$VIDPERSON_MXNET_PYTHON" ] || utils/make_env.sh mxnet || echo "tests that compare with MXNet will skip"
	$(ENV) python -m pytest --ignore-glob='tests/test_training_*'
	$(ENV) for tests in tests/test_training_*.py; do python -m pytest "$$tests" || exit 1; done
