# Two commands: `make demo` shows driftline at work, `make test` runs its tests. Both install what they need into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_ARGS ?=
TEST_ARGS ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
export ORT_DISABLE_TELEMETRY := 1

.PHONY: demo test faults lint lock revision baseline clean

demo: $(VENV)/.runs
	$(BIN)/driftline demo $(DEMO_ARGS)

test: $(VENV)/.develops
	$(BIN)/python -m pytest -n auto --dist worksteal -q $(TEST_ARGS)

# Crashes, power cuts, full and failing disks, links and clocks at full size, in under 55 minutes; best as root on Linux.
faults: $(VENV)/.develops
	$(BIN)/python -m bench.faults

lint: $(VENV)/.develops
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

# The next revision of the database's schema, from what the tables' declarations changed.
revision: $(VENV)/.develops
	$(BIN)/python -m driftline.hub.store.migrations $(MESSAGE)

# The first one anew: only while nothing was released.
baseline: $(VENV)/.develops
	$(BIN)/python -m driftline.hub.store.migrations baseline

# Locks without index hosts, with hashes, for every supported platform. uv is needed only here.
lock:
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-header \
	  --extra all pyproject.toml --output-file requirements.lock
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-header \
	  --extra all --extra dev --constraint requirements.lock pyproject.toml --output-file requirements-dev.lock

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "driftline needs Python 3.11 or newer; name one with: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.runs: $(VENV)/.made requirements.lock pyproject.toml
	$(PIP) --require-hashes --requirement requirements.lock
	$(PIP) --no-deps --editable .
	touch $@

$(VENV)/.develops: $(VENV)/.made requirements-dev.lock pyproject.toml
	$(PIP) --require-hashes --requirement requirements-dev.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache driftline-report
