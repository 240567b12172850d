# Everything a contributor or a first-time user types. Needs Python >= 3.11, make and a C++ compiler; everything else is fetched
# by the locks in requirements/ into .venv (and .model for the local model).
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq install --require-hashes
SERVE := $(VENV)/.serve-installed
DEV := $(VENV)/.dev-installed
CLIENTS := .venv-clients/.installed
ENGINES := .venv-engines/.installed
MODEL ?= local
HEADWAY_DATA ?= ../shared/data
export HEADWAY_DATA

.PHONY: help run setup model test test-all clients engines edge soak bench bench-admission bench-phases bench-facts fuzz lint docs sbom lock clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  make %-16s %s\n", $$1, $$2}'

run: $(SERVE) ## Gateway and control with a scripted model at once; the local real model takes over when built (MODEL=none skips it)
	@exec $(BIN)/headway demo --model $(MODEL)

setup: $(DEV) ## The environment of a contributor, from the locks, into .venv; nothing else

model: $(SERVE) ## Build the local real model in the foreground; goes on where it was stopped, has nothing to do when it is there
	@$(BIN)/headway model build

test: $(DEV) ## The gate: unit, security and web tests that this machine can run; names what it skips and why
	$(BIN)/python tools/gate.py

test-all: $(DEV) $(CLIENTS) $(ENGINES) model ## The gate, then the slow and heavy: local model, agent frameworks, other engines
	$(BIN)/python tools/gate.py --all

clients: $(DEV) $(CLIENTS) ## Official clients and agent frameworks: equal objects direct and through Headway
	$(BIN)/python -m pytest tests/clients -q

engines: $(DEV) $(ENGINES) ## The named queries on ClickHouse's engine and on Spark: equal answers (about 1.5 GB; Spark needs Java 17)
	$(BIN)/python -m pytest tests/engines -q

edge: $(DEV) ## Streams cut anywhere, budgets at their edge, kills, stores away
	$(BIN)/python -m headway.prove.edge

soak: MINUTES ?= 10
soak: $(DEV) ## Streams with disconnects and slow clients for MINUTES; memory, sockets and tasks come back to rest
	$(BIN)/python -m headway.prove.soak --minutes $(MINUTES)

bench: $(DEV) ## Headway beside nginx and other gateways on one mock upstream; JSON=FILE writes the figures
	$(BIN)/python benchmarks/gateway/run.py $(if $(JSON),--json $(JSON))

bench-admission: $(DEV) ## What a decision of admission costs, up to 100,000 calls queued; JSON=FILE writes the figures
	$(BIN)/python benchmarks/admission/run.py $(if $(JSON),--json $(JSON))

bench-facts: $(DEV) ## Exact p50 and p99 of 1 to 10 million calls, 100,000 spans stored, and how both grow; JSON=FILE writes the figures
	$(BIN)/python benchmarks/facts/run.py $(if $(JSON),--json $(JSON))

bench-phases: $(DEV) ## What timing every read and looking for broken streams costs a chunk; JSON=FILE writes the figures
	$(BIN)/python benchmarks/phases/run.py $(if $(JSON),--json $(JSON))

fuzz: MINUTES ?= 5
fuzz: $(DEV) ## Random requests and streams for MINUTES: no uncaught exception, no reading that differs
	$(BIN)/python -m headway.prove.fuzz --minutes $(MINUTES)

lint: $(DEV) ## Formatting, lint, types, the arrows of the house
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DEV) ## Write the generated pages of docs/reference anew
	$(BIN)/python tools/reference.py

sbom: $(DEV) ## What an installation consists of: CycloneDX JSON of the runtime locks into build/sbom
	$(BIN)/python tools/sbom.py

UV = $(BIN)/uv pip compile --quiet --no-strip-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-emit-options --custom-compile-command 'make lock' $(UPGRADE)
lock: $(DEV) ## Resolve requirements/*.txt anew from pyproject.toml and requirements/*.in (UPGRADE=--upgrade takes newer releases)
	$(UV) pyproject.toml requirements/build.in requirements/dev.in --extra serve --extra postgres --extra shared --extra ducklake -o requirements/dev.txt
	$(UV) pyproject.toml --extra serve -c requirements/dev.txt -o requirements/serve.txt
	$(UV) pyproject.toml -c requirements/dev.txt -o requirements/gateway.txt
	$(UV) requirements/build.in -c requirements/dev.txt -o requirements/build.txt
	$(UV) requirements/clients.in -c requirements/dev.txt -o requirements/clients.txt
	$(UV) requirements/engines.in -o requirements/engines.txt
	$(UV) requirements/model-build.in -o requirements/model-build.txt
	$(UV) --no-deps requirements/model.in -o requirements/model.txt

clean: ## Remove what tests and runs left; the environment, the local model and the state folder stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* htmlcov

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 was found"; echo "why: Headway needs it"; echo "do: install it, or make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "error: $(PYTHON) -m venv failed"; echo "why: on Debian and Ubuntu the module is a package of its own"; echo "do: apt install python3-venv, then again"; rm -rf $(VENV); exit 2; }

# Headway itself goes in without dependencies and without a build environment of its own: only what the locks name is fetched.
$(SERVE): requirements/serve.txt requirements/build.txt pyproject.toml | $(BIN)/python
	@echo "installing Headway into $(VENV) (once)"
	@$(PIP) -r requirements/serve.txt -r requirements/build.txt
	@$(BIN)/python -m pip --disable-pip-version-check -qq install --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): requirements/dev.txt $(SERVE)
	@echo "installing what tests need into $(VENV) (once)"
	@$(PIP) -r requirements/dev.txt
	@touch $@

# An environment of its own: frameworks pin each other's and our packages as they like.
$(CLIENTS): requirements/clients.txt $(DEV)
	@echo "installing clients and agent frameworks into .venv-clients (once)"
	@test -x .venv-clients/bin/python || $(BIN)/python -m venv .venv-clients
	@.venv-clients/bin/python -m pip --disable-pip-version-check -qq install --require-hashes -r requirements/clients.txt
	@if command -v npm >/dev/null; then cd tests/clients/node && npm ci --no-audit --no-fund --silent; else echo "npm is absent: the Vercel AI SDK is skipped"; fi
	@touch $@

$(ENGINES): requirements/engines.txt $(DEV)
	@echo "installing other query engines into .venv-engines (once)"
	@test -x .venv-engines/bin/python || $(BIN)/python -m venv .venv-engines
	@.venv-engines/bin/python -m pip --disable-pip-version-check -qq install --require-hashes -r requirements/engines.txt
	@touch $@
