# make study      set up and run the quickstart study
# make test       the tests of each change; make test-slow: those that take minutes each
# make test-cluster  a Ray cluster of simulated hosts; needs root, sshd, ip and rsync
# make lint       ruff and mypy
# make benchmark  an hour of measurements; BENCHMARK_OPTIONS=--quick for minutes
# SPEC=… and STUDY_OPTIONS=… change what `make study` runs

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SPEC ?= quickstart
STUDY_OPTIONS ?=
BENCHMARK_OPTIONS ?=
# Where the real MNIST may lie; without it, tests that need it are skipped with a reason.
export VAE_STUDY_DATA ?= $(firstword $(wildcard $(CURDIR)/data $(CURDIR)/../shared/data))
# Tests that start Ray wait as much as they compute.
WORKERS ?= $(shell expr $$(nproc) + 1)
# Which of the slow tests; .ci/run leaves out the long ones.
SLOW ?= slow
# One thread per process: tests and packs run side by side.
export OMP_NUM_THREADS ?= 1

.PHONY: study test test-slow test-cluster lint benchmark clean

study: $(INSTALLED)
	$(BIN)/vae-study run $(SPEC) $(STUDY_OPTIONS)

test: $(INSTALLED)
	$(BIN)/pytest -m "not slow and not cluster" -n $(WORKERS) --dist loadfile

test-slow: $(INSTALLED)
	$(BIN)/pytest -m "$(SLOW) and not cluster" -n $(WORKERS) --dist loadfile --timeout 3000

test-cluster: $(INSTALLED)
	$(BIN)/pytest -m cluster tests/cluster --timeout 900

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(INSTALLED)
	$(BIN)/python -m tests.benchmarks $(BENCHMARK_OPTIONS)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or later is needed; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
