# Everything a checkout can do, on a machine with Python 3.11 or newer, make and git. `make help` lists it.
#
# The virtual environment in .venv holds exactly what requirements/dev.txt locks, by hash; it is made when first needed
# and brought up to date when the lock or pyproject.toml changes.

SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
INSTALLED := $(VENV)/.installed

# Which configuration `make run` runs; without one: the demo.
CONFIG ?=
# More arguments for `make run` and `make test`, e.g. `make test ARGS="-k windows"`.
ARGS ?=
# How many tests run at a time: one more than there are cores, at most five, because some wait for real processes.
WORKERS = $$($(BIN)/python -c "import os; print(min(os.cpu_count() or 1, 4) + 1)")
# `make lock UPGRADE=--upgrade` takes the newest versions; otherwise only what pyproject.toml forces changes.
UPGRADE ?=

.PHONY: help run test lint format dashboard lock bench clean

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(INSTALLED) ## Run the demo: no account, no set-up. With CONFIG=my.yaml: run that configuration
ifeq ($(strip $(CONFIG)),)
	@exec $(BIN)/apigateway-exporter demo $(ARGS)
else
	@exec $(BIN)/apigateway-exporter run --config.file "$(CONFIG)" $(ARGS)
endif

test: $(INSTALLED) ## Run the tests (all but those that take minutes or need more than Python)
	@exec $(BIN)/pytest -m "not long and not helm and not servers" -n $(WORKERS) --dist worksteal $(ARGS)

lint: $(INSTALLED) ## Check format, style, types and the house rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/yamllint --strict config .github

format: $(INSTALLED) ## Format the code and fix what can be fixed safely
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

dashboard: $(INSTALLED) ## Write config/grafana/apigateway-exporter.json anew, and the chart's copy of it
	$(BIN)/python config/grafana/dashboard.py
	$(BIN)/python deploy/helm/generate.py

lock: $(INSTALLED) ## Lock the dependencies of pyproject.toml by hash (UPGRADE=--upgrade for the newest)
	$(PIP) install --require-hashes --no-deps -r requirements/ci.txt
	$(COMPILE) pyproject.toml --extra grpc -o requirements/run.txt
	$(COMPILE) pyproject.toml --extra grpc --extra demo --group dev -c requirements/run.txt -o requirements/dev.txt
	$(COMPILE) --group build -c requirements/dev.txt -o requirements/build.txt
	$(COMPILE) --group ci -c requirements/dev.txt -o requirements/ci.txt

COMPILE = $(BIN)/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" >/dev/null

bench: $(INSTALLED) ## Measure the speed promises (twenty minutes; ARGS="pages storm" for some of them)
	@$(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove the virtual environment and everything generated
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f exporter/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A venv that lost its interpreter, or that was never finished, is made anew.
$(INSTALLED): requirements/dev.txt pyproject.toml hatch_build.py exporter/loops.pyx
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		for python in python3.13 python3.12 python3.11 python3.14 python3 python; do \
			if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
		done; \
		if [ -z "$$found" ]; then echo "Python 3.11 or newer is needed, and none is in the PATH." >&2; exit 1; fi; \
		echo "making $(VENV) with $$found"; \
		$$found -m venv --clear $(VENV) || { \
			echo "$$found cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }; \
	fi
	@echo "installing the locked dependencies of requirements/dev.txt (a minute or so)"
	@$(PIP) install --require-hashes --no-deps -r requirements/dev.txt
	@echo "installing apigateway-exporter from this checkout"
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c "from exporter.loops import COMPILED; print('its inner loops are compiled' if COMPILED else \
		'its inner loops are not compiled, for want of a C compiler or of headers of Python: all works, slower')"
	@touch $@
