# make env: .venv/ with everything; make test: lint, types, tests; make demo: the main job; make clean: caches.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: env demo test clean

env: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gapcheck needs Python 3.11 or newer, '$(PYTHON)' is not: run make env PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "$(VENV): about 190 packages, 3.6 GB to download (less what uv has cached), 7.5 GB on disk; 4 GB are CUDA (see README)"
	@test -x $(VENV)/bin/uv || $(VENV)/bin/python -m pip install --quiet uv
	$(VENV)/bin/uv pip install --compile-bytecode --python $(VENV)/bin/python -c constraints.txt -e '.[all,dev]'
	@touch $@

demo: env
	$(VENV)/bin/gapcheck demo --out runs/demo

# One thread a process: two test processes would otherwise fight over the same cores.
test: export OMP_NUM_THREADS := 1
test: env
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest -n 2

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
