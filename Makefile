# `make demo` and `make test` do all the set-up: a virtual environment in .venv and the package.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint format docs package qgis-plugin clean

demo: $(READY)
	$(BIN)/outcrop demo --output demo --resume

test: $(READY)
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell docs src tests benchmarks README.md CONTRIBUTING.md CHANGELOG.md

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# `make docs TUTORIALS=0` runs neither the tutorials nor the blocks of the pages, which takes minutes.
TUTORIALS ?= 1
docs: $(READY)
	$(BIN)/sphinx-build --fail-on-warning --keep-going -D plot_gallery=$(TUTORIALS) -b html docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html README.md CONTRIBUTING.md CHANGELOG.md
	test $(TUTORIALS) = 0 || OUTCROP_PAGES=1 $(BIN)/python -m pytest --numprocesses logical tests/test_pages_run.py

package: $(READY)
	$(BIN)/python -m hatchling build

# dist/outcrop-qgis-VERSION.zip, which QGIS installs (Plugins > Install from ZIP).
qgis-plugin: $(READY)
	$(BIN)/python -P qgis/build.py

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo docs/_build docs/gallery docs/reference/commands
