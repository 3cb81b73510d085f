# `make` lists the commands. They need Python 3.11 or newer and nothing else, unless their line says so.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
COMPONENTS := clients doctor monitoring operator service
RUN := clients doctor monitoring service
PIP := $(BIN)/python -m pip --disable-pip-version-check --require-virtualenv
# Two more than cores: the tests wait about half of their time. CPU, by `time`: 276 s by 4 workers, of them 8 s each to import and
# collect; PostgreSQL takes 95 s more, which `time` does not count.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 2)')
# What needs neither a cluster nor another installation, nor half an hour; pyproject.toml has the marks.
HERE := not e2e and not chaos and not reference and not clients
MINIMUM := import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Slipway needs Python 3.11 or newer, not %s: make PYTHON=python3.12 ..." % sys.version.split()[0])

# Without it each worker of each run rewrites the tests' assertions anew: 6 of 18 s of CPU before the first test.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-slow clients chaos check page-check fix e2e bench bench-quick lock version-set release-check clean
.PHONY: code-figures search-quality docs pictures terminal-pictures alerts architecture-docs chart-docs dashboards dashboards-preview rotation-docs runbooks settings-docs

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run ## Chat with the agent on localhost: database, documents, service (no key, no cluster)
	@exec $(BIN)/slipway dev --docs docs

test: $(VENV)/.dev ## Tests of every module, on a real PostgreSQL, in four minutes; ARGS="-k name" picks
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m 'not slow and $(HERE)' $(ARGS)

test-slow: $(VENV)/.dev ## Attacks, killed processes, the page in a browser: the tests without a cluster that take longest
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup --timeout 180 -m 'slow and $(HERE)' $(ARGS)

clients: page-check $(VENV)/.dev $(VENV)/clients/.made ## JavaScript clients of the LangGraph wire in Node and Chromium (needs nodejs, npm, chromium)
	$(BIN)/pytest -q -m 'clients and not reference' tests/langgraph_js $(ARGS)

chaos: $(VENV)/.dev ## Twenty minutes of rollouts, kills, database faults and poisoned runs; prints what was lost (nothing)
	$(BIN)/pytest -q -s -m chaos $(ARGS)

check: $(VENV)/.dev ## Lint, format, types, layers, dependencies, dead code, generated pages, lock files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@for component in $(COMPONENTS); do (cd $$component && $(abspath $(BIN))/deptry .) || exit 1; done
	$(BIN)/vulture
	$(BIN)/zizmor --offline --quiet --no-progress .github/workflows
	$(BIN)/pytest -q tests/contract

page-check: $(VENV)/page_check/.made ## Types and lint of the chat page's scripts and styles, by tsc and Biome (needs nodejs, npm); in `make clients`
	$(VENV)/page_check/node_modules/.bin/tsc --project tools/page_check
	$(VENV)/page_check/node_modules/.bin/biome lint --config-path=tools/page_check --error-on-warnings service/agent_service/static

fix: $(VENV)/.dev ## Let the linter and the formatter correct what they can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

e2e: $(VENV)/.dev ## Tests on the cluster of KUBECONFIG, with the images SLIPWAY_IMAGE and OPERATOR_IMAGE in its nodes
	@test -n "$$KUBECONFIG" || { echo "make e2e: set KUBECONFIG to a cluster that may be used for tests" >&2; exit 2; }
	$(BIN)/pytest -m e2e tests/e2e -s $(ARGS)

bench: $(VENV)/.dev ## Slipway beside the tutorial way, every token checked (Linux, two idle cores, at most 15 minutes); ARGS=--help
	$(BIN)/python -m bench $(ARGS)

bench-quick: $(VENV)/.dev ## The main figures of it, in at most two minutes
	$(BIN)/python -m bench --quick $(ARGS)

docs: $(VENV)/.docs ## The pages of docs/ as a site in build/site; a link or heading that is not there fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "open build/site/index.html"

pictures: $(VENV)/.dev ## Make the pictures of the chat page and the first dashboard in docs/pictures (Debian: chromium, prometheus)
	$(BIN)/python -m tools.pictures

terminal-pictures: $(VENV)/.dev ## Write docs/pictures/*.svg, what kubectl and slipway doctor show, from the code
	$(BIN)/python -m tools.terminal_pictures

dashboards: $(VENV)/.dev ## Write the Grafana dashboards of the charts from the code
	$(BIN)/python -m tools.dashboards

dashboards-preview: $(VENV)/.dev ## Draw every panel from made-up traffic, or ARGS=http://a-prometheus (Debian: prometheus, chromium)
	$(BIN)/python -m tools.dashboard_preview $(ARGS)

settings-docs: $(VENV)/.dev ## Write docs/operations/settings.md from the code
	$(BIN)/python -m tools.settings_docs

runbooks: $(VENV)/.dev ## Write the runbooks that a release serves at /runbooks from docs/runbooks
	$(BIN)/python -m tools.runbook_pages

architecture-docs: $(VENV)/.dev ## Write the diagrams of docs/developer/architecture.md from the code
	$(BIN)/python -m tools.architecture_docs

rotation-docs: $(VENV)/.dev ## Write the state machine into docs/developer/rotation.md from the code
	$(BIN)/python -m tools.rotation_docs

alerts: $(VENV)/.dev ## Write charts/slipway/files/alerts.yaml from the rules of the code
	$(BIN)/python -m tools.alert_rules

chart-docs: $(VENV)/.dev ## Write each chart's values.schema.json, README table and list of names from its values.yaml
	$(BIN)/python -m tools.chart_schema

code-figures: $(VENV)/.dev ## Sizes of files and functions, docstrings, `Any`, files to read for a question, the tests' helpers
	$(BIN)/python -m tools.code_figures

search-quality: $(VENV)/.dev ## How much of a handbook rag_search finds, by words and with a model's vectors; ARGS=--help
	$(BIN)/python -m tools.search_quality $(ARGS)

lock: ## Write the hash-pinned requirement files from the components' pyproject.toml (needs uv)
	requirements/lock.sh

version-set: $(VENV)/.dev ## Set the version everywhere: make version-set VERSION=0.2.0
	$(BIN)/python -m tools.version_set "$(VERSION)"

release-check: $(VENV)/.dev ## May this commit be tagged as a release? ARGS="--tag v1.2.3"
	@$(BIN)/python -m tools.release check $(ARGS)

clean: ## Remove the virtual environment, caches and the local database of `make run`
	rm -rf $(VENV) .slipway .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c '$(MINIMUM)'
	@echo "making a virtual environment in $(VENV) …"
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) has no venv module: on Debian, apt install python3-venv" >&2; exit 1; }
	@touch $@

# A stamp is older than the files it stands for only when they changed. requirements/dev.txt holds all of run.txt.
$(VENV)/.run: requirements/run.txt pyproject.toml $(RUN:=/pyproject.toml) | $(VENV)/.made
	@echo "installing the packages of requirements/run.txt (once, about a minute) …"
	@$(PIP) install --quiet --require-hashes --no-deps -r requirements/run.txt
	@$(PIP) install --quiet --no-build-isolation --no-deps $(RUN:%=--editable %)
	@touch $@

OTHERS := $(wildcard requirements/versions/*.txt)

$(VENV)/.dev: requirements/dev.txt $(OTHERS) pyproject.toml $(COMPONENTS:=/pyproject.toml) | $(VENV)/.made
	@echo "installing the packages of requirements/dev.txt (once) …"
	@$(PIP) install --quiet --require-hashes --no-deps -r requirements/dev.txt
	@$(PIP) install --quiet --no-build-isolation --no-deps $(COMPONENTS:%=--editable %)
	@rm -rf $(VENV)/versions
	@for file in $(OTHERS); do $(PIP) install --quiet --require-hashes --no-deps -r $$file --target $(VENV)/versions/$$(basename $$file .txt) || exit 1; done
	@touch $(VENV)/.run $@

$(VENV)/.docs: requirements/docs.txt | $(VENV)/.made
	@echo "installing the packages of requirements/docs.txt (once) …"
	@$(PIP) install --quiet --require-hashes --no-deps -r requirements/docs.txt
	@touch $@

JAVASCRIPT := $(wildcard examples/react_use_stream/* examples/react_use_stream/src/* tests/langgraph_js/*.jsx tests/langgraph_js/*/package*.json)

$(VENV)/clients/.made: tests/langgraph_js/install $(JAVASCRIPT) | $(VENV)/.made
	@echo "installing JavaScript clients and building their pages (once, about a minute) …"
	@tests/langgraph_js/install $(abspath $(VENV))/clients
	@touch $@

$(VENV)/page_check/.made: tools/page_check/package-lock.json | $(VENV)/.made
	@mkdir -p $(@D)
	@cp tools/page_check/package*.json $(@D)/
	@cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
