# make train, make test: each makes its own .venv on a bare machine with Python >= 3.11.
PYTHON ?= python3
VENV := .venv
# One thread for each of a few processes: two of two threads slow each other tenfold.
PARALLEL := -n auto --maxprocesses 4 --dist worksteal

.PHONY: install train test lint clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "selfkd needs Python >= 3.11; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

train: install
	$(VENV)/bin/selfkd train

test: install
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -m 'not slow' $(PARALLEL)

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV)
