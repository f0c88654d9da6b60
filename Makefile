# What a user or a builder types. Everything happens in a virtual environment in the checkout.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help test check demo demo-opus pyz clean

help:
	@echo "make demo       from finished runs to filesets, a mirror, and the status back"
	@echo "make demo-opus  processes that wake on time, files and status, and their boards"
	@echo "make test       run the tests"
	@echo "make check      ruff and mypy --strict"
	@echo "make pyz        build update_mirror.pyz, the client in one file"
	@echo "make clean      remove what the others made"

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,fast]'
	touch $@

# Most of the time goes into waiting for the disk: more at once than there are processors.
test: $(READY)
	$(BIN)/python -m pytest -n 4 --dist loadfile $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: $(READY)
	$(BIN)/python -m server demo

demo-opus: $(READY)
	$(BIN)/python -m server demo-opus

pyz: update_mirror.pyz

update_mirror.pyz: $(READY) update_mirror.py parse_config.py $(wildcard mirror/*.py formats/*.py)
	rm -rf build/pyz
	mkdir -p build/pyz
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
	    --target build/pyz requests tqdm PyYAML
	cp -r update_mirror.py parse_config.py mirror formats build/pyz/
	find build/pyz -name '__pycache__' -prune -exec rm -rf {} +
	find build/pyz -name '*.so' -delete  # compiled parts cannot be loaded from an archive
	rm -rf build/pyz/bin
	$(BIN)/python -m zipapp build/pyz --main update_mirror:command \
	    --python '/usr/bin/env python3' --compress --output $@
	chmod 755 $@

clean:
	rm -rf $(VENV) build demo demo-opus update_mirror.pyz .pytest_cache .mypy_cache .ruff_cache *.egg-info
