# Two commands for a newcomer: `make demo` and `make test`. Both install what they need.
PYTHON ?= python3
BIN := .venv/bin
# Processes that run tests, up to 3 GB each: `make test WORKERS=8` on a machine with more cores.
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Without its bytecode every process would compile the package anew, in the tests some hundred times.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow lint types unit docs bench faults clean

demo: .venv/installed
	$(BIN)/kilolayer train --task arm_reach_easy --out runs/demo-$$(date +%Y%m%d-%H%M%S)

# Types are checked beside the tests. A file's tests share a process, and so what they compile.
test: lint
	$(MAKE) --no-print-directory -j 2 types unit

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/installed-dev
	$(BIN)/pyright

unit: .venv/installed-dev
	$(PYTEST) -m "not slow"

# The tests that `make test` leaves out: killed and resumed runs, full disks, notebooks, examples,
# the wheel, the zoo's scores. Continuous integration runs both.
test-slow: .venv/installed-dev
	$(PYTEST) -m slow

# The documentation site in site/, with every link checked: open site/index.html.
docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Writes docs/performance.md and its plot; the figures want an idle machine.
bench: .venv/installed
	$(BIN)/python -m benchmarks.performance

# Kills, damaged files and bad inputs by the hundred, about an hour of one core. Stopped, it goes on
# where it was.
faults: .venv/installed
	$(BIN)/python -m benchmarks.faults --kills 200 --bad-inputs 500

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@ .venv/installed

.venv/installed-docs: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@ .venv/installed

clean:
	rm -rf .venv site
