# The commands of Slipway. `make help` lists them; all are idempotent.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
STATE  ?= .slipway
VENV         := .venv
VENV_SERVING := .venv-serving
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
APPS := gateway controller jobs
PACKAGES := contract cluster sdk jobs controller gateway identity local
EXAMPLES := $(patsubst %/pyproject.toml,%,$(wildcard examples/*/pyproject.toml))

# Programs that the machine lacks and that manifests/tools can build.
TOOLS := $(CURDIR)/.tools
export PATH := $(PATH):$(TOOLS)

# Containers often set it. Without stored bytecode each program that a test or the local stack starts compiles all its modules.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

# --- environments ------------------------------------------------------------

.uv/bin/uv: requirements/uv.txt
	@echo "· fetching uv into .uv"
	@$(PYTHON) -m venv .uv
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt

# $(call environment,folder,locks,packages,interpreter): an environment made of hashed locks and of our packages, editable. Without
# an interpreter it has $(PYTHON).
define environment
	@echo "· installing $(1) from $(2)"
	@$(UV) venv --quiet --allow-existing --python $(or $(4),$(PYTHON)) $(1)
	@$(UV) pip sync --quiet --python $(1)/bin/python --require-hashes $(2)
	@$(UV) pip install --quiet --python $(1)/bin/python --no-deps --no-build-isolation $(addprefix -e ./,$(3))
	@touch $(1)/.installed
endef

$(VENV)/.installed: $(UV) requirements/dev.txt $(PACKAGES:%=%/pyproject.toml) $(EXAMPLES:%=%/pyproject.toml)
	$(call environment,$(VENV),requirements/dev.txt,$(PACKAGES) $(EXAMPLES))

# The predictors of the local stack have the plugins of the examples, as the image slipway/predictors.
PLUGINS := examples/sentiment

$(VENV_SERVING)/.installed: $(UV) serving/requirements.txt requirements/serving-dev.txt contract/pyproject.toml serving/pyproject.toml $(PLUGINS:%=%/pyproject.toml)
	$(call environment,$(VENV_SERVING),serving/requirements.txt requirements/serving-dev.txt,contract serving $(PLUGINS))

# Environments for tests with another interpreter: .venv-python3.13 and .venv-serving-python3.12.
TEST_PYTHON         ?= python3.12
VENV_PYTHON         := .venv-$(notdir $(TEST_PYTHON))
VENV_SERVING_PYTHON := .venv-serving-$(notdir $(TEST_PYTHON))

$(VENV_PYTHON)/.installed: $(UV) requirements/dev.txt $(PACKAGES:%=%/pyproject.toml) $(EXAMPLES:%=%/pyproject.toml)
	$(call environment,$(VENV_PYTHON),requirements/dev.txt,$(PACKAGES) $(EXAMPLES),$(TEST_PYTHON))

$(VENV_SERVING_PYTHON)/.installed: $(UV) serving/requirements.txt requirements/serving-dev.txt contract/pyproject.toml serving/pyproject.toml $(PLUGINS:%=%/pyproject.toml)
	$(call environment,$(VENV_SERVING_PYTHON),serving/requirements.txt requirements/serving-dev.txt,contract serving $(PLUGINS),$(TEST_PYTHON))

# Programs of other projects for benchmarks and tests.
.venv-%/.installed: $(UV) requirements/%.txt
	@echo "· installing .venv-$* from requirements/$*.txt"
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv-$*
	@$(UV) pip sync --quiet --python .venv-$*/bin/python --require-hashes requirements/$*.txt
	@touch $@

.PHONY: environments
environments: $(VENV)/.installed $(VENV_SERVING)/.installed

.PHONY: install
install: environments ## make .venv and .venv-serving from the locks; build helm and kubeconform into .tools where Go can, unless they are installed
	@manifests/tools $(TOOLS)

.PHONY: hooks
hooks: $(VENV)/.installed ## check each commit and its message by the hooks of .pre-commit-config.yaml
	$(VENV)/bin/pre-commit install

# --- the local stack ----------------------------------------------------------

.PHONY: up
up: environments ## run the local stack: train, promote, serve, predict; ONCE=1 stops then; MODELS=all has all sample models
	@exec env SLIPWAY_LOCAL_STATE=$(STATE) $(VENV)/bin/python -m slipway_local up $(if $(ONCE),--once) $(if $(MODELS),--models "$(MODELS)")

.PHONY: simulate
simulate: install ## send traffic to the running local stack: MODEL=heart RATE=60, options in ARGS; until Ctrl-C
	@exec env SLIPWAY_LOCAL_STATE=$(STATE) $(VENV)/bin/python -m slipway_local simulate $(or $(MODEL),heart) --rate $(or $(RATE),60) $(ARGS)

# --- locks -------------------------------------------------------------------

COMPILE := pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
           $(foreach p,$(PACKAGES) serving,--no-emit-package slipway-$(p)) --no-emit-package slipway \
           $(foreach e,$(notdir $(EXAMPLES)),--no-emit-package slipway-$(e))

# Packages that must have the same version in training and serving.
SHARED := joblib|numpy|onnx|onnxruntime|pandas|pydantic|scikit-learn|scipy|skops

.PHONY: lock
lock: $(UV) ## resolve all dependencies; UPGRADE=1 selects newer versions
	$(UV) $(COMPILE) $(if $(UPGRADE),--upgrade) requirements/dev.in -o requirements/dev.txt
	for app in $(APPS); do printf -- '-e ./%s\n' contract cluster $$([ $$app != jobs ] || echo sdk) $$app \
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
lint: install types ## ruff, mypy --strict, import-linter, words of the glossary, commit subjects since BASE; shellcheck, helm and kubeconform where present
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python scripts/old_words.py
	@if git rev-parse --verify --quiet HEAD >/dev/null; then $(VENV)/bin/python scripts/commit_subjects.py $(BASE); else echo "· no git repository: commit subjects are not checked"; fi
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run manifests/bring-up manifests/build-images manifests/slim manifests/tools manifests/dev/program; else echo "· shellcheck is not installed: skipped"; fi
	@$(MAKE) --no-print-directory chart-lint

.PHONY: types
types: install ## mypy --strict
	$(VENV)/bin/mypy $(foreach p,$(filter-out sdk,$(PACKAGES)),$(p)/slipway_$(p)) sdk/slipway examples tests scripts docs bench/gateway.py bench/overload.py bench/outage.py bench/plain.py --exclude '^tests/(serving|e2e/clients)/'
	$(VENV_SERVING)/bin/mypy serving/slipway_serving tests/serving bench/serving.py

# A separate folder for each run: in pytest's shared default, each starting pytest removes the permissions
# that the PostgreSQL of another run needs. In /tmp, because a socket's path may have 107 characters. It has gigabytes of databases
# and artifacts, and stays only after a failure.
SCRATCH := /tmp/slipway-tests-$(shell echo '$(CURDIR)' | cksum | cut -d' ' -f1)

# Tests are spread over worker processes, because much of their time is waiting; a file stays in one process. Each worker imports
# what any test of its suite imports, and starts the servers that its files share: MLflow and scikit-learn would take as much CPU
# time as many tests in the workers of the gateway's suite, PostgreSQL and an issuer in those of the jobs. The budget is CPU time
# (tests/budget.py); those of the suites add up to four minutes of two cores.
WORKERS ?= 2
SUITES := serving gateway jobs
PYTEST = $(1)/bin/pytest --basetemp $(SCRATCH)/$(2) --numprocesses $(3) --dist loadfile
GATEWAY_TESTS := $(addprefix tests/,cluster conformance controller gateway identity)
JOBS_TESTS := tests examples $(addprefix --ignore ,tests/serving tests/local tests/e2e $(GATEWAY_TESTS))

.PHONY: test $(SUITES:%=test-%)
test: install ## the fast tests: those that are not marked as slow; no cluster
	@mkdir -p $(SCRATCH)
	@$(MAKE) --no-print-directory --jobs 3 --output-sync=target $(SUITES:%=test-%)
	@rm -rf $(SCRATCH)
test-gateway: # more than half of its time is waiting
	$(call PYTEST,$(VENV),gateway,3) -m "not slow" --budget 220 $(GATEWAY_TESTS)
test-jobs:
	$(call PYTEST,$(VENV),jobs,$(WORKERS)) -m "not slow" --budget 215 $(JOBS_TESTS)
test-serving:
	$(call PYTEST,$(VENV_SERVING),serving,1) -m "not slow" --budget 45 tests/serving

.PHONY: check $(SUITES:%=check-%) check-local
check: install ## all tests that need no cluster, the local stack included
	@mkdir -p $(SCRATCH)
	@$(MAKE) --no-print-directory --jobs 4 --output-sync=target check-local $(SUITES:%=check-%)
	@rm -rf $(SCRATCH)
check-gateway:
	$(call PYTEST,$(VENV),gateway,$(WORKERS)) $(GATEWAY_TESTS)
check-jobs:
	$(call PYTEST,$(VENV),jobs,$(WORKERS)) $(JOBS_TESTS)
check-serving:
	$(call PYTEST,$(VENV_SERVING),serving,1) tests/serving
# One stack for all tests of the folder. The first test waits until it is up.
check-local:
	$(VENV)/bin/pytest --basetemp $(SCRATCH)/local tests/local

# The packages run on Python 3.11 to 3.13, serving on 3.11 and 3.12. Predictors and Jobs that these tests start are in the
# environments of `make install`.
.PHONY: test-python
test-python: install $(VENV_PYTHON)/.installed ## the tests of all but serving with another interpreter: TEST_PYTHON=python3.13; folders or files in ARGS
	@mkdir -p $(SCRATCH)
	$(VENV_PYTHON)/bin/pytest --basetemp $(SCRATCH)/$(notdir $(TEST_PYTHON)) $(or $(ARGS),$(addprefix tests/,contract cluster controller gateway identity sdk jobs))

.PHONY: test-python-serving
test-python-serving: install $(VENV_SERVING_PYTHON)/.installed ## the tests of serving with another interpreter: TEST_PYTHON=python3.12
	@mkdir -p $(SCRATCH)
	$(VENV_SERVING_PYTHON)/bin/pytest --basetemp $(SCRATCH)/serving-$(notdir $(TEST_PYTHON)) $(or $(ARGS),tests/serving)

# The contract of a cluster (tests/cluster/test_cluster.py) and the controller run in a namespace of their own, with an image
# that contains Python alone.
CONTRACT_NAMESPACE := slipway-contract
CONTRACT_IMAGE     := python:3.11-slim-bookworm

.PHONY: e2e
e2e: install .venv-clients/.installed ## test the whole platform on the cluster of `make kind`
	@docker image inspect $(CONTRACT_IMAGE) >/dev/null 2>&1 || docker pull --quiet $(CONTRACT_IMAGE)
	@kind load docker-image --name slipway $(CONTRACT_IMAGE)
	@kubectl --context kind-slipway create namespace $(CONTRACT_NAMESPACE) --dry-run=client --output yaml \
	| kubectl --context kind-slipway apply --filename -
	SLIPWAY_TEST_KUBERNETES=$(CONTRACT_NAMESPACE) $(VENV)/bin/pytest -k "kubernetes or operator" tests/cluster/test_cluster.py tests/controller/test_operator.py
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
