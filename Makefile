# `make demo` and `make test` set up everything by themselves; Python 3.11 or later is all they need.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo shop test test-tools check simulate fuzz chaos lint format types imports ops picture bench lock clean

BIN := .venv/bin
STAMP := .venv/.installed

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## the virtual environment and Kafka's jars, once
	@$(BIN)/python -m local.kafka

# Candidates are run, not only found: the shims of version managers are there without a version behind them.
$(STAMP): requirements/dev.lock pyproject.toml
	@if [ -x $(BIN)/python ] && ! $(BIN)/python -c '' 2>/dev/null; then rm -rf .venv; fi; \
	if [ ! -x $(BIN)/python ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	    python=; \
	    for candidate in $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python); do \
	        if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python=$$candidate; break; fi; \
	    done; \
	    if [ -z "$$python" ]; then \
	        echo "gapless: Python 3.11 or later is needed and was not found ($$(python3 --version 2>&1 | head -n 1)): install it, or name it: make setup PYTHON=/its/path" >&2; exit 1; \
	    fi; \
	    if ! $$python -c 'import venv, ensurepip' 2>/dev/null; then \
	        echo "gapless: $$python cannot make virtual environments: install its venv package (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; \
	    fi; \
	    echo "setting up .venv with $$($$python --version): once, a minute or two"; \
	    rm -rf .venv && $$python -m venv .venv || exit 1; \
	fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r requirements/dev.lock
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## the whole way, shown on a stack of its own
	@$(BIN)/gapless demo

shop: setup ## a demo shop of a thousand products, and the dashboard
	@$(BIN)/gapless shop

# By files: what a file's tests share is started once. Half of them wait for servers, so two at a time are worth it.
# In the order of their names, which has those that take longest first: else one of the two is left with them.
test: setup ## all the tests
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# Debian 13: apt install prometheus prometheus-node-exporter nodejs npm golang maven default-jdk-headless. They fail, and
# are not skipped, where a program is missing. The examples' own dependencies come from npm, the Go module proxy and Maven
# Central.
test-tools: setup ## the tests that need programs of others: prometheus, node, go, java
	@$(BIN)/pytest tests/tools

check: lint types imports test ## what CI runs, but for test-tools

SEEDS ?= 100000

simulate: setup ## histories of the batch rules under faults: make simulate SEEDS=1000000
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)

fuzz: setup ## twenty times the examples that the tests draw, over HTTP, on every topic and of the domain
	@FUZZ_EXAMPLES=20 $(BIN)/pytest tests/integration/test_fuzz_http.py tests/integration/test_fuzz_topics.py tests/property

MINUTES ?= 1

chaos: setup ## every fault on a real stack, and the judge's verdict: make chaos MINUTES=5
	@$(BIN)/python -m chaos --scenario all --minutes $(MINUTES)

lint: setup ## style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: setup ## make the formatting right
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: setup ## mypy, strict
	@$(BIN)/mypy

imports: setup ## which room may know which
	@$(BIN)/lint-imports

picture: setup ## what the README shows: an invoice, and the dashboard of a stack under load
	@$(BIN)/python -m tests.unit.documents.picture
	@$(BIN)/python -m tests.e2e.picture

ops: setup ## write what is generated for operators: docs/metrics.md, alerts, dashboards
	@$(BIN)/python -m ops.generate

bench: setup ## measure, as benchmarks/README.md says
	@$(BIN)/python -m benchmarks

# Universal: one lock for every platform and Python. Existing pins stay unless UPGRADE=--upgrade is given.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)

lock: setup ## write requirements/*.lock from pyproject.toml
	@$(LOCK) pyproject.toml --extra local --extra dev -o requirements/dev.lock
	@$(LOCK) pyproject.toml -o requirements/production.lock
	@echo 'setuptools>=80' | $(LOCK) - -o requirements/build.lock

clean: ## remove what make made here; Kafka's jars stay in the user's cache
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache test-logs
