# On a fresh machine with Python 3.11 and make:   make demo    make test
# Both make an environment in .venv first; a second run finds it and goes straight on.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Tests and demo work on small matrices in two processes: threads that wait for each other would burn the cores.
export OPENBLAS_NUM_THREADS := 1

.PHONY: demo test install lint types contracts unit notebooks clean
.DEFAULT_GOAL := demo

$(STAMP): pyproject.toml constraints.txt
	@echo "== environment in $(VENV) (first run only: a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || (echo 'on Debian: apt install python3-venv'; exit 1)
	@$(BIN)/python -m pip install --quiet --upgrade pip==26.3
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/python -m compileall -q optverify
	@touch $@

install: $(STAMP)

demo: install
	@echo "== demo: verify the controllers in examples/"
	@$(BIN)/python -m examples.demo

test: lint types contracts unit notebooks
	@echo "== all checks passed"

lint: install
	@echo "== ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: install
	@echo "== mypy --strict"
	@$(BIN)/mypy

contracts: install
	@echo "== import contracts"
	@$(BIN)/lint-imports

unit: install
	@echo "== tests"
	@$(BIN)/pytest -n 2

notebooks: install
	@echo "== notebooks"
	@$(BIN)/pytest --nbmake notebooks -p no:randomly

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
