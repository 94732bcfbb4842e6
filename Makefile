# `make serve` and `make test` are all a newcomer needs; each sets up .venv by itself, once.

PYTHON ?= python3
export BENTOML_DO_NOT_TRACK ?= True
HOST ?= 127.0.0.1
PORT ?= 3000
BIN := .venv/bin

.PHONY: serve test test-slow fuzz lint lock bench container-test

serve: .venv/installed
	$(BIN)/bentoml serve --host $(HOST) --port $(PORT)

# A file's tests run one after another, files side by side: a worker a core. Each has servers, ports and folders of its own.
WORKERS ?= auto
PYTEST := $(BIN)/pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist loadfile
test: .venv/installed lint
	$(PYTEST) -m "not slow"

# What takes long and guards what seldom breaks.
test-slow: .venv/installed
	$(PYTEST) -m slow

# What `make test` does with a few cases, with so many, and others each time; what fails is printed with how to repeat it.
FUZZ_CASES ?= 20000
fuzz: .venv/installed
	FUZZ_CASES=$(FUZZ_CASES) $(BIN)/pytest tests/fuzz

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The figures of docs/performance.md; takes 20 minutes and wants a machine that does nothing else.
bench: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.lock
	for program in serving telemetry footprint interpolation; do $(BIN)/python -m benchmarks.$$program || exit 1; done

# Builds the image and tries it, without a Docker engine; takes some minutes, and wants root and Debian's
# buildah, podman, runc and debootstrap (docs/deploy.md).
container-test: .venv/installed
	$(BIN)/python -m deploy.container.check

# Made anew where a dependency changed; the project itself is installed in place.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "latentd needs Python 3.11 or newer; name one with make PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# After a change of the dependencies in pyproject.toml. Wants uv (pip install uv).
lock:
	uv pip compile pyproject.toml --extra dev --no-header --no-annotate --no-emit-index-url --upgrade -o requirements.lock
	uv pip compile pyproject.toml --extra bench -c requirements.lock --no-header --no-annotate --no-emit-index-url \
		--upgrade -o benchmarks/requirements.lock
	uv pip compile pyproject.toml --extra otlp -c requirements.lock --no-header --no-annotate --no-emit-index-url \
		--no-emit-package tensorboardx --upgrade -o deploy/container/requirements.lock
