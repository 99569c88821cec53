PYTHON ?= python3
TORCH_INDEX ?=
BIN := .venv/bin

.PHONY: help quickstart test test-all test-oldest clean
.NOTPARALLEL:
# Packages are installed uncompiled; the first import compiles what is used, unless this variable forbids keeping it.
unexport PYTHONDONTWRITEBYTECODE

help: ## list these targets
	@sed -n 's/^\([a-z-]*\): .*## /\1\t/p' Makefile | expand -t 14
	@echo 'PYTHON=python3.12 names the interpreter; without a GPU, a smaller and faster install:'
	@echo 'TORCH_INDEX=https://download.pytorch.org/whl/cpu'

quickstart: .venv/quickstart ## install into .venv, then train, prune and compare small networks
	$(BIN)/compress study quickstart

test: .venv/test ## install into .venv with the development tools, then check everything, as CI does
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

test-all: .venv/test ## run all tests, those too that take minutes each
	$(BIN)/pytest -m ""

# Old releases warn of newer ones that they need, so that warnings are no errors here. `make test` takes the newest.
CORE := tests/test_network_cost.py tests/test_recipes.py tests/test_runs.py tests/networks tests/data tests/training tests/baselines
test-oldest: .venv-oldest/ready ## the core of the tests on the oldest releases that pyproject.toml allows
	.venv-oldest/bin/pytest -o filterwarnings=default $(CORE)

clean: ## remove environments, caches and builds; never runs
	rm -rf .venv .venv-oldest build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find compress baselines benchmarks tests -name __pycache__ -prune -exec rm -rf {} +

# The files .venv/quickstart and .venv/test say when the environment was last made to fit pyproject.toml.
.venv/quickstart: pyproject.toml | $(BIN)/python
	$(call install,.)
	touch $@

.venv/test: pyproject.toml | $(BIN)/python
	$(call install,'.[dev]')
	touch $@ .venv/quickstart

.venv-oldest/ready: pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	sed -n 's/^ *"\([a-z0-9-]*\)>=\([0-9a-z.]*\)".*/\1==\2/p' pyproject.toml | sort -u > .venv-oldest/oldest.txt
	.venv-oldest/bin/pip install --no-compile --constraint .venv-oldest/oldest.txt --editable '.[dev]'
	touch $@

$(BIN)/python:
	@echo 'Installing into .venv: minutes, as torch with CUDA is 5 GB'
	$(PYTHON) -m venv .venv
	-$(BIN)/pip install --quiet uv

install = $(if $(TORCH_INDEX),$(call fetch,--index-url $(TORCH_INDEX) torch torchvision) && )$(call fetch,--editable $(1))
# uv downloads in parallel and needs half the time; pip stands in where uv cannot be had or does not reach an index.
fetch = { $(BIN)/uv pip install --python .venv $(1) || $(BIN)/pip install --no-compile $(1); }
