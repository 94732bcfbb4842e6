# Start with `make serve` or `make test`. The first one of them sets up .venv.

PYTHON ?= python3
export BENTOML_DO_NOT_TRACK ?= True
HOST ?= 127.0.0.1
PORT ?= 3000
BIN := .venv/bin

.PHONY: serve test test-slow fuzz lint lock bench gpu-check container-test release

serve: .venv/installed
	@$(BIN)/latentd serve --host $(HOST) --port $(PORT)

# One worker for each core. Each has its own servers, ports and folders; tests/conftest.py says who runs what.
WORKERS ?= auto
PYTEST := $(BIN)/pytest --numprocesses $(WORKERS) --maxprocesses 4
test: .venv/installed lint
	$(PYTEST) -m "not slow"

# Tests that take long and cover what seldom breaks.
test-slow: .venv/installed
	$(PYTEST) -m slow

# Random hostile requests and files: `make test` always tries the same few, this tries FUZZ_CASES new ones. A failure is printed
# with the command that repeats it.
FUZZ_CASES ?= 20000
fuzz: .venv/installed
	FUZZ_CASES=$(FUZZ_CASES) $(BIN)/pytest tests/fuzz

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Measures the figures of docs/performance.md. It takes half an hour and needs an otherwise idle machine.
bench: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.lock
	for program in serving telemetry footprint interpolation; do $(BIN)/python -m benchmarks.$$program || exit 1; done

# Checks and measures everything that only a GPU can show, in MINUTES: docs/performance.md. Results are written as they come.
# On a host without a virtual environment: make gpu-check GPU_PYTHON=python3
MINUTES ?= 8
GPU_PYTHON ?= $(BIN)/python
OUT ?= benchmarks/results
gpu-check:
	$(GPU_PYTHON) -m benchmarks.gpu --minutes $(MINUTES) --out $(OUT)

# Builds the image and tests it, without Docker. It takes some minutes, and needs root and Debian's buildah, podman, runc and
# debootstrap (docs/deploy.md).
container-test: .venv/installed
	$(BIN)/python -m deploy.container.check

# Makes and checks the wheel, the sdist and the SBOM in dist/ (docs/deploy.md#a-release).
release: .venv/installed
	$(BIN)/python -m deploy.release

# Runs again when a dependency changed. The project itself is installed in editable mode.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "latentd needs Python 3.11 or newer; name one with make PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Run this after a change of the dependencies in pyproject.toml. It needs uv (pip install uv).
lock:
	uv pip compile pyproject.toml --extra dev --no-header --no-annotate --no-emit-index-url --upgrade -o requirements.lock
	uv pip compile pyproject.toml --extra bench -c requirements.lock --no-header --no-annotate --no-emit-index-url \
		--upgrade -o benchmarks/requirements.lock
	uv pip compile pyproject.toml --extra otlp -c requirements.lock --no-header --no-annotate --no-emit-index-url \
		--no-emit-package tensorboardx --no-emit-package tifffile --upgrade -o deploy/container/requirements.lock
