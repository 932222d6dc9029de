# `make demo` shows it, `make test` checks it, `make docs` builds the site. The first call builds .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Modules are compiled when they are first imported, not all at once: 25 s less for torch alone.
PIP    := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
# Two processes share two cores: the libraries of each are held to one thread, and none spins.
TWO    := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

.PHONY: demo test lint types laws docs bench fuzz faults soak clean

demo: $(VENV)/.ready
	$(BIN)/ngrammix demo --out build/demo --overwrite

test: laws
	$(TWO) $(BIN)/python -m pytest -n 2

# The marked subset again, with the kernels as plain Python and with every array index checked.
# Kernels cached without bounds checks must not be taken up, hence a cache folder of their own.
laws: $(VENV)/.ready-dev
	$(TWO) NUMBA_DISABLE_JIT=1 NGRAMMIX_MAX_EXAMPLES=5 $(BIN)/python -m pytest -q -n 2 -m kernels
	$(TWO) NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$(CURDIR)/build/numba-boundscheck NGRAMMIX_MAX_EXAMPLES=20 \
		$(BIN)/python -m pytest -q -n 2 -m kernels

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-dev
	$(BIN)/mypy

docs: $(VENV)/.ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo build/site/index.html

# Inputs for one reader, or for all, found by coverage: make fuzz READER=parquet RUNS=1000000
RUNS ?= 2000
SEED ?= 1
fuzz: $(VENV)/.ready-fuzz
	$(TWO) $(BIN)/python -m tests.fuzz.run $(READER) --runs $(RUNS) --seed $(SEED) --jobs 2

# A fault at every file operation, at every allocation, and a loss of power at every moment.
faults: $(VENV)/.ready-dev
	$(TWO) $(BIN)/python -m tests.faults.run

# 62 million tokens through cache and mixer, twice: sums, memory and bits. make soak TOKENS=1000000
TOKENS ?= 62000000
soak: $(VENV)/.ready
	$(TWO) $(BIN)/python tools/soak.py --tokens $(TOKENS) --out build/soak.json

bench: $(VENV)/.ready
	$(BIN)/ngrammix bench observe --out build/bench

# What users need; what the tests need besides; what the site needs besides.
$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PIP) --editable '.[dev]'
	touch $@

$(VENV)/.ready-docs: $(VENV)/.ready
	$(PIP) --editable '.[docs]'
	touch $@

# Where atheris has no wheel, the seeded mutators alone make the inputs.
$(VENV)/.ready-fuzz: $(VENV)/.ready-dev
	$(PIP) --only-binary atheris --editable '.[fuzz]' || echo "atheris cannot be installed here"
	touch $@

clean:
	rm -rf $(VENV) build
