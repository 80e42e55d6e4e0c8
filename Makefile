# `make help` lists what there is. Everything is installed into .venv; nothing else is touched.

PYTHON ?= python3
BIN := .venv/bin
SOURCES := $(shell find src -type f -not -name '*.pyc')
# A development install, where there is one, serves `make run` too.
INSTALLED := $(if $(wildcard .venv/.dev),.venv/.dev,.venv/.runtime)
UV = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links pyproject.toml

.DEFAULT_GOAL := help

##@ Use
.PHONY: run test
run: $(INSTALLED) ## Bring the whole system up and show its main job live (ARGS=--once to end after it)
	@$(BIN)/certctl demo $(ARGS)

test: .venv/.dev ## Every test, a file on each core (ARGS='-k name' for some)
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

##@ Develop
.PHONY: dev lint fmt check bench golden docs lock clean help
dev: .venv/.dev ## Install the package for development

lint: .venv/.dev ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

fmt: .venv/.dev ## Format and mend what can be mended
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

check: lint ## Lint and the fast tests
	$(BIN)/pytest -q tests/domain tests/pki tests/test_shape.py

bench: .venv/.dev ## Measure, as ratios within one run (docs/performance.md)
	$(BIN)/python -m tests.bench

golden: .venv/.dev ## Write the golden files anew, for review in the diff
	CERTCTL_WRITE_GOLDEN=1 $(BIN)/pytest -q tests/test_golden.py

docs: .venv/.dev ## Generate docs/reference from the code
	$(BIN)/python -m tests.reference

lock: .venv/.dev ## Resolve the dependencies anew into the constraints files
	$(BIN)/pip install --quiet uv
	$(UV) --upgrade --group build -o constraints.txt
	$(UV) --upgrade --group build --group dev -o constraints-dev.txt

clean: ## Remove what was installed and cached here
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "certctl needs Python 3.11 or newer; name one with make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && apt-get install -y -qq python3-venv && $(PYTHON) -m venv .venv; \
		else echo "Python's venv module is missing: install python3-venv"; exit 1; fi; }

.venv/.runtime: .venv/bin/python constraints.txt pyproject.toml $(SOURCES)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --force-reinstall .
	@touch $@

.venv/.dev: .venv/bin/python constraints-dev.txt pyproject.toml
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r constraints-dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
