# `make check` is what CI runs. path.sh gives every command the environment, with these extras.
export VIDPERSON_EXTRAS = demo torch dev
SHELL = bash
ENV = . ./path.sh &&
SCRIPTS = $(shell git ls-files -co --exclude-standard | xargs grep -lsE '^\#(! */.*[/ ]bash$$| shellcheck shell=bash)')
# Test files at a time: make check TEST_JOBS=8
TEST_JOBS = 2
PYTEST = python -m pytest --durations=15
TRAINING = $(wildcard tests/test_training_*.py)
# The files that take longest begin first, so that both processes end together; tests/conftest.py orders the others.
LONGEST = $(filter %_loop.py %_run.py %_embedder.py,$(TRAINING))

.PHONY: check lint types shell mxnet test test-training campaign

# The checks that need one core each go side by side, while MXNet's environment is made.
check:
	$(ENV) true
	+$(MAKE) --no-print-directory -j $(TEST_JOBS) --output-sync lint types shell mxnet
	+$(MAKE) --no-print-directory test

lint:
	$(ENV) python -m ruff check

types:
	$(ENV) python -m mypy vidperson steps steps_body steps_face steps_speaker local benchmarks utils

shell:
	$(ENV) shellcheck -x $(SCRIPTS)

mxnet:
	[ -n "$$VIDPERSON_MXNET_PYTHON" ] || utils/make_env.sh mxnet || echo "tests that compare with MXNet will skip"

# Each worker takes whole files, in the order of tests/conftest.py.
test: mxnet test-training
	$(ENV) $(PYTEST) -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder --ignore-glob='tests/test_training_*'

# Each file has a process of its own: torch's training crashed, rarely, in one that had loaded PyAV, OpenCV, OpenVINO,
# ONNX Runtime and Kaldi's reader before. What a file's tests said is printed when they have ended.
test-training:
	$(ENV) printf '%s\n' $(LONGEST) $(filter-out $(LONGEST),$(TRAINING)) | xargs -P $(TEST_JOBS) -I FILE bash -c \
	  'said=$$($(PYTEST) -q FILE 2>&1); code=$$?; printf "%s\n" FILE "$$said"; exit $$code'

# The long forms of tests that draw their cases at random; CI runs short ones, of one seed.
campaign:
	$(ENV) VIDPERSON_FUZZ_EXAMPLES=5000 $(PYTEST) -n $(TEST_JOBS) --dist loadfile $$(grep -l '^from hypothesis' tests/test_*.py)
	$(ENV) $(PYTEST) -m campaign
