# Every target makes .venv by itself and does nothing twice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

export OMP_WAIT_POLICY ?= passive

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint bench clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.core: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing fewlabel into $(VENV) (a few minutes the first time)"
	@$(INSTALL) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.core
	@$(INSTALL) -e '.[test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	@$(INSTALL) -e '.[test,dev]'
	@touch $@

install: $(VENV)/.core  ## fewlabel, into .venv

demo: $(VENV)/.core  ## digits, 5 % of the labels: train, compare, draw (runs/demo)
	@$(BIN)/fewlabel demo --out runs/demo

test: $(VENV)/.test  ## the tests, on every core
	@$(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal

test-slow: $(VENV)/.test  ## the tests that take minutes
	@$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev  ## format, lint and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: $(VENV)/.test  ## timings, as ratios within one run
	@for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

clean:  ## remove the environment and the caches, keep the runs
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build *.egg-info
