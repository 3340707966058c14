# Everything starts from Python 3.11+ and make: `make serve` runs the whole service, `make test` proves it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DATA ?= ../shared/data

.PHONY: serve test lint types rules audit licences sbom secrets format docs bench clean

serve: $(VENV)/.serve
	@$(BIN)/python -m standalone serve

# Two at a time, a file each: most of the time of flow tests is waiting for processes.
test: lint types rules audit
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

rules: $(VENV)/.dev
	$(BIN)/lint-imports

# What is known to be bad: code (bandit), secrets (detect-secrets), licences, vulnerabilities (pip-audit; says so where it
# cannot ask). The others write: what is installed to build/licences.md and build/sbom.json, findings to .secrets.baseline.
audit licences sbom secrets: $(VENV)/.dev
	@$(BIN)/python -m supply $@

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The documentation as a site of its own in build/site; warnings are errors, and nothing is remembered: references come from the code.
docs: $(VENV)/.dev
	$(BIN)/python -m sphinx -E -W --keep-going -q -b html -c docs . build/site

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.accuracy.served --data $(DATA)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist build

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kshot needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.serve: $(VENV)/.python pyproject.toml constraints.txt
	@echo "installing kshot into $(VENV) (once; torch is the big part)"
	@$(PIP) --editable '.[learn,server,standalone]'
	@touch $@

$(VENV)/.dev: $(VENV)/.serve
	@echo "installing the development tools into $(VENV) (once)"
	@$(PIP) --editable '.[learn,server,standalone,docs,dev]'
	@touch $@
