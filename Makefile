# The two commands: `make demo` and `make test`. Each sets up what it needs by itself.

# The first Python 3.11 to 3.13 that really runs (a pyenv shim may exist for one that is not installed).
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := out/demo

.PHONY: help demo lock-demo test device-test lint types layers delegates figures clean

help:
	@echo "make demo     compress the reference model, verify it, open out/demo/report.html afterwards"
	@echo "make lock-demo  the door lock on a rendered film: enrol, recognise, PIN, unlock, record; in out/lock-demo"
	@echo "make test     install what the tests need and run them all"
	@echo "make device-test  deploy to two emulated arm64 devices (root on Debian; says why where it cannot)"
	@echo "make lint     ruff;  make types: mypy --strict;  make layers: import-linter"
	@echo "make delegates  three trained models on every delegate that works here"
	@echo "make figures  every measured figure against its goal"
	@echo "make clean    remove the environment and the outputs"

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found" >&2; \
		echo "hint: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 3; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/host: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing the host's packages into $(VENV) (about a minute, 2.7 GB)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[host]'
	@touch $@

$(VENV)/dev: $(VENV)/host
	@echo "installing the delegates and what the tests need (another minute, 0.9 GB)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[host,delegates,serve,dev]'
	@touch $@

demo: $(VENV)/host
	$(BIN)/edgetool compress recipes/fashion_mnist.toml --out $(DEMO)
	@echo
	@echo "Ten test images, as a device runs them (python -m edge run):"
	@$(BIN)/python -m edgetool.data.export fashion_mnist --number 10 --out $(DEMO)/images
	$(BIN)/python -m edge run $(DEMO)/fashion_mnist.edge $(DEMO)/images/*.pgm

lock-demo: $(VENV)/dev
	$(BIN)/python -m benchmarks.door_lock_demo --out out/lock-demo

test: $(VENV)/dev
	$(BIN)/python -m pytest tests/edge  # the device side first, in a process without TensorFlow
	$(BIN)/python -m pytest --ignore tests/edge --ignore tests/devices

device-test: $(VENV)/dev
	$(BIN)/python -m pytest tests/devices

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/mypy

layers: $(VENV)/dev
	$(BIN)/lint-imports

delegates: $(VENV)/dev
	$(BIN)/python -m benchmarks.delegates

figures: $(VENV)/host
	$(BIN)/python -m benchmarks.figures

clean:
	rm -rf $(VENV) .venv-* out
