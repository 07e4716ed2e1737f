# The commands of Slipway. `make help` lists them; all are idempotent.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= $(shell command -v python3.11 || command -v python3)
STATE  ?= .slipway
VENV         := .venv
VENV_SERVING := .venv-serving
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
APPS := gateway controller jobs
PACKAGES := contract cluster jobs controller gateway identity local

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# --- environments ------------------------------------------------------------

.uv/bin/uv: requirements/uv.txt
	@echo "· fetching uv into .uv"
	@$(PYTHON) -m venv .uv
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt

# $(call environment,folder,locks,packages): an environment from hashed locks with Slipway's packages, editable.
define environment
	@echo "· installing $(1) from $(2)"
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) $(1)
	@$(UV) pip sync --quiet --python $(1)/bin/python --require-hashes $(2)
	@$(UV) pip install --quiet --python $(1)/bin/python --no-deps --no-build-isolation $(addprefix -e ./,$(3))
	@touch $(1)/.installed
endef

$(VENV)/.installed: $(UV) requirements/dev.txt $(PACKAGES:%=%/pyproject.toml)
	$(call environment,$(VENV),requirements/dev.txt,$(PACKAGES))

$(VENV_SERVING)/.installed: $(UV) serving/requirements.txt requirements/serving-dev.txt contract/pyproject.toml serving/pyproject.toml
	$(call environment,$(VENV_SERVING),serving/requirements.txt requirements/serving-dev.txt,contract serving)

# Programs of other projects for benchmarks and tests.
.venv-%/.installed: $(UV) requirements/%.txt
	@echo "· installing .venv-$* from requirements/$*.txt"
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv-$*
	@$(UV) pip sync --quiet --python .venv-$*/bin/python --require-hashes requirements/$*.txt
	@touch $@

.PHONY: install
install: $(VENV)/.installed $(VENV_SERVING)/.installed ## make .venv and .venv-serving from the locks

# --- the local stack ----------------------------------------------------------

.PHONY: up
up: install ## run the local stack: train, promote, serve, predict; ONCE=1 stops then; MODELS=all has all sample models
	@exec env SLIPWAY_LOCAL_STATE=$(STATE) $(VENV)/bin/python -m slipway_local up $(if $(ONCE),--once) $(if $(MODELS),--models "$(MODELS)")

.PHONY: simulate
simulate: install ## send traffic to the running local stack: MODEL=heart RATE=60, options in ARGS; until Ctrl-C
	@exec env SLIPWAY_LOCAL_STATE=$(STATE) $(VENV)/bin/python -m slipway_local simulate $(or $(MODEL),heart) --rate $(or $(RATE),60) $(ARGS)

# --- locks -------------------------------------------------------------------

COMPILE := pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
           $(foreach p,$(PACKAGES) serving,--no-emit-package slipway-$(p))

# Packages that must have the same version in training and serving.
SHARED := joblib|numpy|onnx|onnxruntime|pandas|pydantic|scikit-learn|scipy|skops|vadersentiment

.PHONY: lock
lock: $(UV) ## resolve all dependencies; UPGRADE=1 selects newer versions
	$(UV) $(COMPILE) $(if $(UPGRADE),--upgrade) requirements/dev.in -o requirements/dev.txt
	for app in $(APPS); do printf -- '-e ./%s\n' contract cluster $$app \
	  | $(UV) $(COMPILE) -c requirements/dev.txt - -o requirements/$$app.txt; done
	printf -- '-e ./%s\n' contract identity | $(UV) $(COMPILE) -c requirements/dev.txt - -o requirements/identity.txt
	mkdir -p .uv
	grep -E '^($(SHARED))==' requirements/dev.txt | sed 's/ .*//' > .uv/shared.txt
	printf -- '-e ./%s\n' contract serving | $(UV) $(COMPILE) -c .uv/shared.txt $(if $(UPGRADE),--upgrade) - -o serving/requirements.txt
	$(UV) $(COMPILE) -c serving/requirements.txt requirements/serving-dev.in -o requirements/serving-dev.txt
	$(UV) $(COMPILE) requirements/bench.in -o requirements/bench.txt
	$(UV) $(COMPILE) requirements/clients.in -o requirements/clients.txt
	$(UV) $(COMPILE) requirements/docs.in -o requirements/docs.txt

# --- documentation -----------------------------------------------------------

.PHONY: docs
docs: install .venv-docs/.installed ## generate the reference pages and build the site in .site, strictly
	$(VENV)/bin/python -m docs.generator
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

# --- checks ------------------------------------------------------------------

.PHONY: lint
lint: install ## ruff, mypy --strict, import-linter; shellcheck, helm and kubeconform where present
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy $(foreach p,$(PACKAGES),$(p)/slipway_$(p)) tests bench/gateway.py bench/overload.py bench/outage.py bench/plain.py docs --exclude '^tests/(serving|e2e/clients)/'
	$(VENV_SERVING)/bin/mypy serving/slipway_serving tests/serving bench/serving.py
	$(VENV)/bin/lint-imports
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run manifests/bring-up manifests/build-images manifests/slim manifests/dev/program; else echo "· shellcheck is not installed: skipped"; fi
	@$(MAKE) --no-print-directory chart-lint

# Concurrent, because much of their time is waiting; the longest one starts first.
ALONE := local gateway jobs serving
TESTS := test-local test-gateway-a-l test-gateway-m-z test-jobs test-serving test-rest

# A separate folder for each run: in pytest's shared default, each starting pytest removes the permissions
# that the PostgreSQL of another run needs. In /tmp, because a socket's path may have 107 characters.
SCRATCH := /tmp/slipway-tests-$(shell echo '$(CURDIR)' | cksum | cut -d' ' -f1)

.PHONY: test $(TESTS)
test: install ## unit tests and the local stack; no cluster
	@mkdir -p $(SCRATCH)
	@$(MAKE) --no-print-directory --jobs 4 --output-sync=target $(TESTS)

# The gateway's tests in two halves, by the first letters of their files.
test-gateway-a-l test-gateway-m-z: test-gateway-%:
	$(VENV)/bin/pytest --basetemp $(SCRATCH)/gateway-$* tests/gateway/test_[$*]*.py
test-jobs:
	$(VENV)/bin/pytest --basetemp $(SCRATCH)/jobs tests/jobs
# The first test waits for the local stack.
test-local:
	$(VENV)/bin/pytest --basetemp $(SCRATCH)/local --timeout 600 tests/local
test-serving:
	$(VENV_SERVING)/bin/pytest --basetemp $(SCRATCH)/serving tests/serving
test-rest:
	$(VENV)/bin/pytest --basetemp $(SCRATCH)/rest $(ALONE:%=--ignore tests/%) --ignore tests/e2e

.PHONY: e2e
e2e: install .venv-clients/.installed ## test the whole platform on the cluster of `make kind`
	$(VENV)/bin/pytest tests/e2e

.PHONY: bench
bench: install .venv-bench/.installed ## compare serving and gateway with their peers; about five minutes
	@echo "## Serving: a forest of 100 trees over HTTP"
	@$(VENV_SERVING)/bin/python -m bench.serving
	@echo "## Gateway: in front of an instant upstream, one core"
	@$(VENV)/bin/python -m bench.gateway --envoy .venv-bench/bin/envoy

.PHONY: endure
endure: install ## three times the capacity, five minutes without an issuer, twice five without PostgreSQL
	@$(VENV)/bin/python -m bench.overload
	@$(VENV)/bin/python -m bench.outage
	@SLIPWAY_TEST_OUTAGE_SECONDS=300 $(VENV)/bin/pytest --basetemp $(SCRATCH)/outage --capture no tests/gateway/test_outage.py

include kind.mk charts/chart.mk
