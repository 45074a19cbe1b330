# `make demo` and `make test` set up all they need in .venv, inside this clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint torture clean

# Python compiles a module when it is first imported; to compile all of them beforehand, as pip
# does, takes more than a minute. Its backend warns of every editable installation.
INSTALL := PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --no-compile

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip
	touch $@

$(VENV)/.run: setup.py $(VENV)/.venv
	$(INSTALL) --editable .
	touch $@

$(VENV)/.test: setup.py $(VENV)/.venv
	$(INSTALL) --editable '.[test]'
	touch $(VENV)/.run $@

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
