# Every target builds what it needs. `make demo` and `make test` are all the set-up there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests start processes and wait for them, and share nothing.
WORKERS ?= auto
SIDE_BY_SIDE := --numprocesses $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test check fmt bench chaos real-clis clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("hurlicane needs Python 3.11 or later: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,postgres]'
	@touch $@

demo: $(STAMP) ## Run the main job end to end (AGENT=scripted, claude or codex; WORKFLOW=1)
	@$(BIN)/python -m hurlicane_mcp demo --agent $(or $(AGENT),scripted) $(if $(WORKFLOW),--workflow)

test: $(STAMP) ## Run the tests that need nothing but this machine (WORKERS side by side)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m 'not real_cli and not chaos' $(ARGS)

check: $(STAMP) ## Lint, types, architecture and docs: what CI runs first
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_docs.py

fmt: $(STAMP) ## Format the code and mend what the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

real-clis: $(STAMP) ## Run the suite with the real Claude Code and Codex CLIs (from npm)
	tests/real_clis/install
	$(BIN)/python -m pytest -m real_cli $(ARGS)

chaos: $(STAMP) ## Kill and freeze processes at random, then look for any loss (JOBS, SECONDS, SEED)
	CHAOS_JOBS=$(JOBS) CHAOS_SECONDS=$(SECONDS) CHAOS_SEED=$(SEED) \
		$(BIN)/python -m pytest -m chaos tests/chaos $(ARGS)

bench: $(STAMP) ## Measure; prints a table and writes bench/results.json (ONLY=METRICS)
	@$(BIN)/python -m bench $(ONLY)

clean: ## Remove everything that make made
	rm -rf $(VENV) .clis build dist bench/results.json
