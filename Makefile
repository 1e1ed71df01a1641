# One verb per chore; `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SECONDS_TO_SMOKE ?= 20
# Where it is set, each of the hundreds of processes that the tests start would compile opsq anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help install run test smoke check lint interop chaos bench helm docs clean shots

help: ## List the verbs
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

install: $(STAMP) ## Make .venv with opsq and everything its tests need

$(STAMP): pyproject.toml constraints/dev.txt
	@PYTHON="$(PYTHON)" scripts/install-python $(VENV)
	@touch $(STAMP)

run: install ## Start opsq with the demo workload; page on http://127.0.0.1:5555
	@exec $(BIN)/opsq up -A examples.demo.app --data-dir .opsq/demo

smoke: install ## The same for 20 s without a terminal; prints one JSON object last
	@$(BIN)/python -m examples.demo.smoke --seconds $(SECONDS_TO_SMOKE)

test: install ## Install what is missing, servers included, and run every test
	@scripts/install-servers
	@scripts/install-interop
	@$(BIN)/python -m pytest -q

check: install lint ## The minute before a commit: lint, types, architecture, unit tests
	@$(BIN)/python -m pytest -q tests/architecture tests/unit

lint: install ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

interop: install ## Real Celery and opsq, both ways, and every result store
	@scripts/install-servers all
	@scripts/install-cassandra
	@scripts/install-interop
	@INTEROP=full $(BIN)/python -m pytest -q tests/interop tests/contract/test_*_results.py tests/contract/test_results_apart.py

chaos: install ## Kill things for several minutes and count what is lost
	@scripts/install-servers all
	@CHAOS=full $(BIN)/python -m pytest -q tests/chaos tests/django tests/cli/test_beat_process.py \
		tests/contract/test_broker_contract.py tests/contract/test_broker_contract_elsewhere.py \
		tests/unit/broker tests/unit/pools/prefork tests/unit/worker/test_rates.py tests/unit/core/test_large_groups.py

bench: install ## Every benchmark once, at its usual size
	@$(BIN)/python -m benchmarks all

helm: install ## The chart with real Helm, running pods, Prometheus; prints one JSON object last
	@scripts/install-servers
	@scripts/install-helm
	@scripts/install-kinds
	@scripts/install-compose
	@HELM=full $(BIN)/python -m pytest -q tests/helm tests/unit/autoscale/test_scaling_shapes.py
	@$(BIN)/python -m tests.helm.summary

docs: install ## Write the generated pages of docs/ anew
	@$(BIN)/python -m opsq.cli.reference docs
	@$(BIN)/python -m deploy.generate

shots: install ## Take the pictures of docs/screenshots anew
	@$(BIN)/python -m tests.web.shots docs/screenshots

clean: ## Remove environments and caches
	@rm -rf .venv .venv-peers .venv-interop .opsq .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
