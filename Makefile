# Every target sets up what it needs from python3 and a PyPI index. CI runs `make check`.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
SEEDS ?= 100
SEED ?=
JOURNEYS ?= 0
JOURNEY ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo dev test check simulate format acceptance bench requirements clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## Set up .venv from uv.lock

.venv/.ready: uv.lock pyproject.toml tools/bootstrap.py
	@$(PYTHON) tools/bootstrap.py

demo: setup ## One paid answer, end to end (ARGS=--json for one JSON object)
	@$(BIN)/concierge demo $(ARGS)

dev: setup ## The whole stack on the official ports (ARGS="--data DIR" keeps its state)
	@$(BIN)/concierge dev $(ARGS)

test: setup ## Run the tests (ARGS="-k name" to choose)
	@$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

check: setup ## What CI runs: format, lint, types, architecture, requirements, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/requirements.py --check
	$(BIN)/pytest -n 2 --dist loadfile

simulate: setup ## Simulate the ledger on bad days (SEEDS=1000 JOURNEYS=10; SEED=n or JOURNEY=n to replay one)
	@PYTHONPATH=tests $(BIN)/python -m chaos --seeds $(SEEDS) --journeys $(JOURNEYS) \
		$(if $(SEED),--seed $(SEED)) $(if $(JOURNEY),--journey $(JOURNEY)) $(ARGS)

format: setup ## Format and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

acceptance: setup ## The acceptance table: every row, what is done and what is not yet
	@$(BIN)/python tools/acceptance.py $(ARGS)

bench: setup ## The budgets, measured in one run
	@$(BIN)/python -m bench $(ARGS)

requirements: setup ## Export functions/requirements.txt from the lock
	@$(BIN)/python tools/requirements.py

clean: ## Remove what make made
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
