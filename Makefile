# Two commands: `make demo` and `make test`. The first call builds .venv, later ones start at once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Two processes share two cores: the libraries of each are held to one thread, and none spins.
TWO    := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

.PHONY: demo test lint types laws bench clean

demo: $(READY)
	$(BIN)/ngrammix demo --out build/demo

test: laws
	$(TWO) $(BIN)/python -m pytest -n 2

# The marked subset again, with the kernels as plain Python and with every array index checked.
# Kernels cached without bounds checks must not be taken up, hence a cache folder of their own.
laws: $(READY)
	$(TWO) NUMBA_DISABLE_JIT=1 NGRAMMIX_MAX_EXAMPLES=5 $(BIN)/python -m pytest -q -n 2 -m kernels
	$(TWO) NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=build/numba-boundscheck NGRAMMIX_MAX_EXAMPLES=20 \
		$(BIN)/python -m pytest -q -n 2 -m kernels

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
