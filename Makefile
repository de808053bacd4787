# make train, make test: each makes its own .venv on a bare machine with Python >= 3.11.
PYTHON ?= python3
VENV := .venv

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
	$(VENV)/bin/python -m pytest -m 'not slow'

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV)
