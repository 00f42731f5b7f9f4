# Every target works in a fresh checkout; `make` alone lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Serving needs a numpy 1, so a Python 3.10 to 3.12 with a shared libpython: the first that is on the PATH.
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$python && break; done)
PIP := -m pip install --quiet --disable-pip-version-check

# Where `make models` builds and `make serve` and `make demo` look: make models MODELS=elsewhere
MODELS := model_repository

SERVE := .venv/bin
EXPORT := .venv-export/bin
PIP_FAILED = || { echo "make: pip could not install; check the network, pip's index and 2 GB of free disk, then run make again" >&2; exit 1; }

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: .venv/.ready models ## set everything up and edit real photos through a real Triton
	@$(SERVE)/python demo/demo.py "$(MODELS)"

.PHONY: serve
serve: .venv/.ready ## serve the models that are built, on loopback, until Ctrl-C
	@$(SERVE)/nexus-server --models "$(MODELS)"

.PHONY: models
models: .venv-export/.ready ## build the compact networks into the model repository
	@$(EXPORT)/nexus-export build --out "$(MODELS)"

.PHONY: test
test: .venv/.tests .venv-export/.tests models ## run every test that needs no GPU
	@$(SERVE)/python -m pytest tests/test_paths.py tests/client tests/ensembles tests/server tests/functional
	@OMP_NUM_THREADS=1 $(EXPORT)/python -m pytest -n 2 --dist loadfile tests/export tests/training --ignore tests/export/full

.PHONY: test-full
test-full: .venv-export/.tests ## run the full-size export tests (24 GB of memory, an hour)
	@$(EXPORT)/python -m pytest tests/export/full

# Each environment checks the types of its own folders. Import contracts are checked without importing anything.
.PHONY: lint
lint: .venv/.tests .venv-export/.tests ## check style, types and the direction of imports
	@$(SERVE)/ruff check .
	@$(SERVE)/ruff format --check .
	@PYTHONPATH=client:ensembles:export:server:training $(SERVE)/lint-imports --no-cache --no-logo
	@$(SERVE)/mypy
	@$(EXPORT)/mypy --config-file mypy-export.ini

.PHONY: bench
bench: .venv/.tests .venv-export/.tests models ## measure on this machine and write benchmarks/results
	@$(SERVE)/python -m benchmarks.serving
	@$(SERVE)/python -m benchmarks.serving_latency
	@$(SERVE)/python -m benchmarks.clicks
	@$(SERVE)/python -m benchmarks.generative_fill
	@$(SERVE)/python -m benchmarks.content_filter
	@$(EXPORT)/python -m benchmarks.quality
	@$(EXPORT)/python -m benchmarks.precisions
	@$(EXPORT)/python -m benchmarks.lama_quality
	@$(EXPORT)/python -m benchmarks.fill_quality

.PHONY: clean
clean: ## remove environments, built networks and results
	rm -rf .venv .venv-export build demo/out
	rm -f model_repository/*/1/model.onnx* model_repository/*/1/model.plan* model_repository/*/1/model.rtx* model_repository/*/1/*.json model_repository/generative_fill/1/merges.txt

# The environments. Serving and exporting are apart: neither has the other's dependencies.

.venv/bin/python .venv-export/bin/python:
	@if [ -z "$(PYTHON)" ]; then echo "make: no Python 3.10, 3.11 or 3.12 on the PATH; install one (Debian: apt-get install python3 python3-venv)" >&2; exit 1; fi
	@$(PYTHON) -m venv $(@:/bin/python=) || { rm -rf $(@:/bin/python=); echo "make: $(PYTHON) cannot make an environment; install its venv (Debian: apt-get install python3-venv), free disk space" >&2; exit 1; }

.venv/.ready: constraints.txt ensembles/pyproject.toml server/pyproject.toml client/pyproject.toml | .venv/bin/python
	@echo "setting up the serving environment (.venv)"
	@$(SERVE)/python $(PIP) -c constraints.txt -e ensembles -e server -e client $(PIP_FAILED)
	@$(SERVE)/nexus-server --check
	@touch $@

.venv-export/.ready: export/pyproject.toml | .venv-export/bin/python
	@echo "setting up the export environment (.venv-export)"
	@$(EXPORT)/python $(PIP) -e export $(PIP_FAILED)
	@touch $@

.venv/.tests: tests/requirements.txt .venv/.ready
	@echo "adding what the tests need to .venv"
	@$(SERVE)/python $(PIP) -c constraints.txt -r $< $(PIP_FAILED)
	@touch $@

.venv-export/.tests: tests/requirements-export.txt training/pyproject.toml .venv-export/.ready
	@echo "adding torch and what the tests need to .venv-export"
	@$(EXPORT)/python $(PIP) -e 'export[torch,quality]' -e training -e ensembles -r $< $(PIP_FAILED)
	@touch $@
