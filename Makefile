# `make demo` and `make test` set up all they need in .venv, inside this clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint torture clean

$(VENV)/.run: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.test: setup.py $(VENV)/.run
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

# The whole experiment on the toy world; leaves runs/toy/report.
demo: $(VENV)/.run
	JAX_PLATFORMS=cpu $(BIN)/python -m lorajax.launch --flagfile=launch/toy.flags

# All tests; a parity test that would be skipped fails here.
test: $(VENV)/.test
	JAX_PLATFORMS=cpu LORAJAX_PARITY=require $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Kills, signals, full disks, races and damaged files, for an hour; `disk` needs root.
torture: $(VENV)/.test
	JAX_PLATFORMS=cpu $(BIN)/python -m benchmarks.torture
	JAX_PLATFORMS=cpu $(BIN)/python -m benchmarks.fuzz --seconds=60

clean:
	rm -rf $(VENV) runs build *.egg-info
