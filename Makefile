# Two commands: `make demo` and `make test`. The first call builds .venv, later ones start at once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test lint types laws bench clean

demo: $(READY)
	$(BIN)/ngrammix demo --out build/demo

test: laws
	$(BIN)/python -m pytest

# The marked subset again, with the kernels as plain Python and with every array index checked.
# Kernels cached without bounds checks must not be taken up, hence a cache folder of their own.
laws: $(READY)
	NUMBA_DISABLE_JIT=1 NGRAMMIX_MAX_EXAMPLES=5 $(BIN)/python -m pytest -q -m kernels
	NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=build/numba-boundscheck NGRAMMIX_MAX_EXAMPLES=20 \
		$(BIN)/python -m pytest -q -m kernels

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/ngrammix bench observe --out build/bench

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build
