PYTHON ?= python3
BIN := .venv/bin

.PHONY: help quickstart gpu-check test test-all test-oldest docs docs-generate docs-record clean
.NOTPARALLEL:
# Packages are installed uncompiled; the first import compiles what is used, unless this variable forbids keeping it.
unexport PYTHONDONTWRITEBYTECODE

help: ## list these targets
	@sed -n 's/^\([a-z-]*\): .*## /\1\t/p' Makefile | expand -t 16
	@echo 'PYTHON=python3.12     the interpreter that .venv is made from'
	@echo 'TORCH_INDEX=URL       the index that PyTorch is installed from; TORCH_INDEX= means PyPI. Without it, Linux'
	@echo '                      machines that have no NVIDIA driver get the CPU build: $(CPU_BUILD)'
	@echo 'MINUTES=9 DATA=DIR    for gpu-check: its time, and the directory that CIFAR-10 is in'

quickstart: .venv/quickstart ## install into .venv, then train, prune and compare small networks
	$(BIN)/compress study quickstart

MINUTES ?= 9
gpu-check: ## test, time and compare on this machine's GPU, into gpu-check/gpu-check.zip, without installing anything
	$(or $(wildcard $(BIN)/python),python3) -m benchmarks.gpu --minutes $(MINUTES) $(if $(DATA),--data-dir '$(DATA)')

test: .venv/test ## install into .venv with the development tools, then check everything, as CI does
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(build-site)
	$(BIN)/pytest

test-all: .venv/test ## run all tests, those too that take minutes each
	$(BIN)/pytest -m ""

# Old releases warn of newer ones that they need, so that warnings are no errors here. `make test` takes the newest.
CORE := tests/test_network_cost.py tests/test_recipes.py tests/test_runs.py tests/networks tests/data tests/training tests/baselines
test-oldest: .venv-oldest/ready ## the core of the tests on the oldest releases that pyproject.toml allows
	.venv-oldest/bin/pytest -o filterwarnings=default $(CORE)

docs: .venv/test ## build the documentation as a site, build/site/index.html, and check its links
	$(build-site)

docs-generate: .venv/test ## write the generated parts of README.md and docs/ again, from the code and from reports/
	$(BIN)/python -m docs.generate

docs-record: .venv/test ## run the quickstart again into docs/quickstart-output.txt, from nothing, for its page
	rm -rf build/quickstart && mkdir -p build/quickstart
	cd build/quickstart && ../../$(BIN)/compress study quickstart 2>&1 | tee ../../docs/quickstart-output.txt

clean: ## remove environments, caches and builds; never runs
	rm -rf .venv .venv-oldest build dist .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find compress baselines benchmarks docs tests -name __pycache__ -prune -exec rm -rf {} +

build-site = $(BIN)/zensical build --clean --strict

# The files .venv/quickstart and .venv/test say when the environment was last made to fit pyproject.toml.
.venv/quickstart: pyproject.toml | .venv/torch
	$(call fetch,--editable '.[deploy]')
	touch $@

.venv/test: pyproject.toml | .venv/torch
	$(call fetch,--editable '.[dev]')
	touch $@ .venv/quickstart

.venv-oldest/ready: pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	sed -n 's/^ *"\([a-z0-9-]*\)>=\([0-9a-z.]*\)".*/\1==\2/p' pyproject.toml | sort -u > .venv-oldest/oldest.txt
	.venv-oldest/bin/pip install --no-compile --constraint .venv-oldest/oldest.txt --editable '.[dev]'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv .venv
	-$(BIN)/pip install --quiet uv

# PyTorch goes first, from an index of its own. PyPI's wheels for Linux bring CUDA, 5 GB, so that machines without an
# NVIDIA driver take the CPU build, unless TORCH_INDEX is set or the CPU build's index does not answer.
CPU_BUILD := https://download.pytorch.org/whl/cpu
answers = $(PYTHON) -c 'import urllib.request; urllib.request.urlopen("$(CPU_BUILD)/torch/", timeout=5)' 2>/dev/null
.venv/torch: | $(BIN)/python
ifeq ($(origin TORCH_INDEX),undefined)
	@if [ "$$(uname)" != Linux ]; then echo 'PyTorch comes from PyPI.'; \
	elif command -v nvidia-smi >/dev/null; then echo 'NVIDIA driver found: PyTorch with CUDA comes from PyPI, 5 GB.'; \
	elif ! $(answers); then echo '$(CPU_BUILD) does not answer: PyTorch comes from PyPI, with CUDA, 5 GB.'; \
	else echo 'No NVIDIA driver: PyTorch is the CPU build, from $(CPU_BUILD) (TORCH_INDEX= takes PyPI'"'"'s).'; \
	$(call fetch,--index-url $(CPU_BUILD) torch torchvision) || echo 'That failed: PyTorch comes from PyPI.'; fi
else ifneq ($(TORCH_INDEX),)
	$(call fetch,--index-url $(TORCH_INDEX) torch torchvision)
endif
	touch $@

# uv downloads in parallel and needs half the time; pip stands in where uv cannot be had or does not reach an index.
fetch = { $(BIN)/uv pip install --python .venv $(1) || $(BIN)/pip install --no-compile $(1); }
