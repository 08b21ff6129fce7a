# Every target works from a clean clone with nothing but Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
BENCH_ROWS ?= 100000

# Airflow starts in 13 s with compiled bytecode, and in 19 s without.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo demo-ui test check bench matrix format clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	@echo "make: setting up .venv with Airflow and the tools, as pinned in constraints.txt (about two minutes, once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

demo: $(READY) ## run an example DAG on its sample data in a real Airflow against the sandbox
	@$(BIN)/python tools/demo.py

demo-ui: $(READY) ## the same, and leave the Airflow UI open until Ctrl-C
	@$(BIN)/python tools/demo.py --keep

test: $(READY) ## run all tests that need no other service
	@echo "make: running the tests; those in tests/system start a real Airflow"
	@$(BIN)/python -m pytest -q

check: $(READY) ## lint, format, types, import contracts, docs
	@echo "make: linting"
	@$(BIN)/ruff check .
	@echo "make: checking the format"
	@$(BIN)/ruff format --check .
	@echo "make: checking types"
	@$(BIN)/mypy
	@echo "make: checking the import contracts"
	@$(BIN)/lint-imports --no-cache
	@echo "make: checking the docs' links and tables"
	@$(BIN)/python tools/check_docs.py

bench: $(READY) ## print the benchmark tables (BENCH_ROWS=1000000 takes half an hour, most of it the script to compare with)
	@$(BIN)/python benchmarks/import_cost.py
	@$(BIN)/python benchmarks/spool.py
	@$(BIN)/python benchmarks/sharing.py
	@$(BIN)/python benchmarks/bulk.py --rows $(BENCH_ROWS)

matrix: $(READY) ## smoke-test Airflow 2.11, 3.0, 3.1 and 3.2 (installs each of them, some minutes)
	@$(BIN)/python tools/matrix.py

format: $(READY) ## format the code
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

clean: ## remove everything that the targets made
	@rm -rf .venv .matrix .demo .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
