# Every target works in a fresh checkout; `make` alone lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Serving needs a numpy 1, so a Python 3.10 to 3.12 with a shared libpython: the first that is on the PATH.
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$python && break; done)
PIP := -m pip install --quiet --disable-pip-version-check

SERVE := .venv/bin
EXPORT := .venv-export/bin
PIP_FAILED = || { echo "make: pip could not install; check the network, pip's index and 2 GB of free disk, then run make again" >&2; exit 1; }

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: .venv/.ready models ## set everything up and edit real photos through a real Triton
	@$(SERVE)/python demo/demo.py

.PHONY: serve
serve: .venv/.ready ## serve the models that are built, on loopback, until Ctrl-C
	@$(SERVE)/nexus-server --models model_repository

.PHONY: models
models: .venv-export/.ready ## build the compact networks into the model repository
	@$(EXPORT)/nexus-export build --out model_repository

.PHONY: test
test: .venv/.tests .venv-export/.tests models ## run every test that needs no GPU
	@$(SERVE)/python -m pytest tests/unit tests/functional
	@OMP_NUM_THREADS=1 $(EXPORT)/python -m pytest -n 2 --dist loadfile tests/export

.PHONY: test-full
test-full: .venv-export/.tests ## run the full-size export tests (24 GB of memory, an hour)
	@$(EXPORT)/python -m pytest tests/export/full

.PHONY: lint
lint: .venv/.tests .venv-export/.tests ## check style and types
	@$(SERVE)/ruff check .
	@$(SERVE)/ruff format --check .
	@$(SERVE)/mypy ensembles/nexus_ensembles server/nexus_server client/nexus_client demo benchmarks/publish.py benchmarks/engines.py benchmarks/serving.py benchmarks/generative_fill.py benchmarks/content_filter.py tests/unit tests/functional
	@MYPYPATH=ensembles $(EXPORT)/mypy export/nexus_export benchmarks/lama_quality.py benchmarks/quality.py benchmarks/precisions.py benchmarks/attention.py benchmarks/int8.py benchmarks/int8_quantizers.py benchmarks/fill_quality.py tests/export

.PHONY: bench
bench: .venv/.tests .venv-export/.tests models ## measure on this machine and write benchmarks/results
	@$(SERVE)/python -m benchmarks.serving
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

.venv-export/.tests: tests/requirements-export.txt .venv-export/.ready
	@echo "adding torch and what the tests need to .venv-export"
	@$(EXPORT)/python $(PIP) -e 'export[torch,quality]' -e ensembles -r $< $(PIP_FAILED)
	@touch $@
