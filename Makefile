# Two commands: `make run` (the default study) and `make test`. Python 3.11+, make, git.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
CONFIG ?= config.yaml
CORES ?= all
BIN := $(VENV)/bin

.PHONY: run test check format lock docs clean help

help:  ## List the commands.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

run: $(VENV)/.run  ## Run the study of CONFIG (default: config.yaml), then make its report.
	@$(BIN)/python -m miagap.config $(CONFIG)
	@$(BIN)/snakemake --cores $(CORES) --configfile $(CONFIG) $$(test -t 1 && echo --logger rich || echo --quiet rules)
	@$(BIN)/python workflow/make_report.py --configfile $(CONFIG)

test: $(VENV)/.test  ## Run all tests.
	$(BIN)/python -m pytest -n auto --dist loadgroup

check: $(VENV)/.test  ## Format, lint, types, documentation.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/snakemake --lint
	$(BIN)/python -m miagap.config_reference --check

format: $(VENV)/.test docs  ## Format the code, write the generated documentation.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/snakefmt Snakefile workflow/rules

docs: $(VENV)/.test  ## Write docs/config.md and docs/attacks.md from the schema and the attacks.
	$(BIN)/python -m miagap.config_reference
	$(BIN)/python -m miagap.attacks

lock: $(VENV)/.test  ## Renew requirements.lock for Python 3.11 to 3.13.
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --upgrade \
		--no-header --no-annotate pyproject.toml -o requirements.lock

# Every environment takes its versions from the lock; what is installed is what is asked for.
$(VENV)/.run: requirements.lock
	@echo "Creating the environment $(VENV) (torch is large: some minutes)"
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"error: Python 3.11 to 3.13 is needed, {sys.executable} is {v[0]}.{v[1]}; give another with make PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable ".[dev,slurm]"
	@touch $@

clean:  ## Remove the environment and caches; results stay.
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build workflow/*.egg-info
