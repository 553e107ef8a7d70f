# make quickstart   environment, install, real data, training, evaluation, a prediction
# make test         environment, install, the tests
# make check        style, types, floors, C++ under sanitizers
# make test-long    fault, fuzz and scale runs
# make test-gpu     the suites of the Triton backend, and training runs, on an NVIDIA GPU
#
# PYTHON       the interpreter to make the environment with (3.11 or newer)
# CONSTRAINTS  pins for pip; the default pins torch, a CPU build where the index has one; CONSTRAINTS= takes the newest
# TEST_PROCESSES  how many processes share the tests of `make test`
# TORCH_INDEX  an extra package index to take torch from, such as PyTorch's own index of CPU builds

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints-cpu.txt
TORCH_INDEX ?=
TEST_PROCESSES ?= 2
RUNS ?= runs

BIN := $(VENV)/bin
PIP_OPTIONS := $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
CORE := $(shell find cpp -type f)
HPO := $(RUNS)/data/hpo
QUICK := $(RUNS)/quickstart

.PHONY: install quickstart test test-long test-gpu check sanitize format clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) $(CORE)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fanin needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_OPTIONS) -e '.[dev]'
	$(BIN)/python -c 'from fanin.kernels.dispatch import compiled_core_obstacle as why; print("fanin:", why() or "compiled CPU core ready")'
	touch $@

$(HPO)/Y.txt: | install
	$(BIN)/fanin data get hpo --out $(HPO)

quickstart: install $(HPO)/Y.txt
	rm -rf $(QUICK)
	$(BIN)/fanin train $(HPO) --recipe quickstart --out $(QUICK)/sparse
	$(BIN)/fanin train $(HPO) --recipe quickstart-dense --out $(QUICK)/dense
	$(BIN)/fanin results $(QUICK)/sparse $(QUICK)/dense
	$(BIN)/fanin predict $(QUICK)/sparse -k 5 \
	  --text 'Marfan syndrome' --text 'Autosomal recessive spastic paraplegia type 20'

test: install
	$(BIN)/pytest --numprocesses $(TEST_PROCESSES) --dist worksteal

test-long: install
	$(BIN)/pytest -m long

test-gpu: install
	$(BIN)/pytest -m gpu

check: install sanitize
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

sanitize: install
	$(BIN)/cmake -S cpp -B build/sanitize -DFANIN_SANITIZE=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo
	$(BIN)/cmake --build build/sanitize -j 2
	$(BIN)/ctest --test-dir build/sanitize --output-on-failure

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build $(VENV)/.installed
