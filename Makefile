# make demo: set up and see an image reconstructed.   make test: set up and check everything.
# make check: lint, types, and the tests of the files that were changed, or of TESTS="tests/operators …".
PYTHON ?= python3
BIN := .venv/bin
# A process for each core, with one thread each; `pytest FILE` alone runs in one process with all threads. Compiled files
# are kept, for many tests start processes.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist worksteal

.PHONY: demo lint test check test-full coverage fuzz format clean

demo: .venv/installed
	$(BIN)/unrolled demo

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --num-workers auto

# Of long matrices of laws and classes every other test, of the longest every third; `make test-full` has them all, and
# so has pytest for a folder.
test: lint
	UNROLLED_TEST_ALTERNATE=1 $(PYTEST)

check: lint
	$(PYTEST) tests/project/test_house.py $(or $(TESTS),$(shell $(BIN)/python -m tests.changed))

# Also every combination of the long matrices.
test-full: .venv/installed
	UNROLLED_TEST_FULL=1 $(PYTEST)

# Which lines no test reaches.
coverage: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[coverage]'
	$(PYTEST) --cov --cov-report=term-missing:skip-covered

# A thousand damaged files of every kind against the code that reads them.
fuzz: .venv/installed
	$(BIN)/python -m tests.fuzz --mutations 1000

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The versions of constraints.txt are those that were tested.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv demo runs .mypy_cache .pytest_cache .ruff_cache
