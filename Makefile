# `make demo` and `make test` do their whole set-up on a fresh machine. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
PLUGINS := $(wildcard plugins/*)

.PHONY: setup demo demo-hub test check docs linkcheck retrain bench gpu clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt $(PLUGINS:=/pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]' $(foreach plugin,$(PLUGINS),--editable ./$(plugin))
	touch $@

demo: setup
	$(BIN)/aezoo demo

# Push, pull, load and verify against a Hub on loopback.
demo-hub: setup
	$(BIN)/python tests/demo_hub.py

# aezoo by itself, then the plugins as they are installed. One thread for each of two processes is faster.
test: setup
	$(BIN)/pytest -n 2
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal $(PLUGINS:=/tests)

check: setup docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/pytest -m slow -n 2 --dist worksteal

# The site, in docs/_build/html. The live page needs npm.
docs: setup
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

# Links to other sites; needs a network.
linkcheck: setup
	$(BIN)/sphinx-build -q -b linkcheck docs docs/_build/linkcheck

# Trains four published variants again and compares bytes: about ten minutes, on the same kind of machine.
retrain: setup
	$(BIN)/pytest -m retrain

bench: setup
	$(BIN)/python tests/benchmarks/bench.py

# Tests and absolute times on a machine with a CUDA GPU, in at most eight minutes.
gpu: setup
	$(BIN)/python tests/benchmarks/gpu.py

clean:
	rm -rf $(VENV) .venv-bench dist docs/_build docs/gallery docs/live/node_modules .pytest_cache .ruff_cache .hypothesis
