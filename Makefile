# `make lab` and `make test` are all that a fresh machine needs beside Python 3.11+ and make.
# Both are quick when pyproject.toml and constraints.txt are as they were.

LAB_ARGS ?=
TEST_ARGS ?=
NOTEBOOK ?= notebooks/01_explore.ipynb
# Networks of each kind that `make scenes` trains: the first are kept, the figures show all.
SEEDS ?= 1
# PYTHON= names another interpreter; without it the first of these that is new enough.
PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python)

VENV := .venv
BIN := $(VENV)/bin
# The stamps carry a checksum and not a time: switching branches back and forth installs nothing.
KEY := $(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
LAB_READY := $(VENV)/.lab-ready-$(KEY)
TEST_READY := $(VENV)/.test-ready-$(KEY)
BENCH_READY := $(VENV)/.bench-ready-$(KEY)
# Jupyter refuses to run as root, as one does in a container, unless told to.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: help lab test lint bench stress scenes clean
.NOTPARALLEL:

help:
	@echo 'make lab      open the first notebook in JupyterLab        LAB_ARGS="--no-browser --port=8899"'
	@echo 'make test     check and test everything, in a browser too  TEST_ARGS="-k images"'
	@echo 'make lint     check style, types and the direction of imports'
	@echo 'make bench    measure speed against named references, as ratios in one run'
	@echo 'make stress   kill and resume 50 runs of vk.embed; the table is tests/stress/README.md'
	@echo 'make scenes   make the embedded default again: scenes, networks   SEEDS=3'
	@echo 'make clean    remove what the others made, $(VENV) included'

lab: $(LAB_READY)
	$(BIN)/jupyter lab $(AS_ROOT) --LabApp.default_url=/lab/tree/$(NOTEBOOK) $(LAB_ARGS)

test: lint
	@$(BIN)/python tests/browser/chromium.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --no-loadscope-reorder $(TEST_ARGS)

lint: $(TEST_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check --python $(VENV)
	$(BIN)/lint-imports

bench: $(BENCH_READY)
	@for script in tests/benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

stress: $(TEST_READY)
	$(BIN)/python tests/stress/kill.py

scenes: $(TEST_READY)
	$(BIN)/python data/make_scenes.py --seeds $(SEEDS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(LAB_READY): | $(BIN)/python
	@echo 'Installing vizkit into $(VENV). The first time takes some minutes: PyTorch is large.'
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable .
	@rm -f $(VENV)/.lab-ready-* && touch $@

$(TEST_READY): $(LAB_READY)
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@rm -f $(VENV)/.test-ready-* && touch $@

$(BENCH_READY): $(TEST_READY)
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@rm -f $(VENV)/.bench-ready-* && touch $@

$(BIN)/python:
	@for python in $(PYTHONS); do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo 'vizkit needs Python 3.11 or newer; tried: $(PYTHONS).' >&2; \
	    echo 'Install one, or name one that is there: make lab PYTHON=/path/to/python3.12' >&2; \
	    exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "$$found cannot make virtual environments. On Debian and Ubuntu: sudo apt install python3-venv" >&2; \
	    exit 1; \
	fi; \
	rm -rf $(VENV) && "$$found" -m venv $(VENV)
