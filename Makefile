# Every target does its own set-up; a machine with Python 3.11+ and make is enough.
PYTHON ?= python3
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
RUN := .venv/bin/
DEMO := demo-output

.PHONY: help setup demo test test-all lint format docs bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet "uv>=0.5"

setup: $(filter .uv/bin/uv,$(UV)) ## install partfit, its plugins and the development tools into .venv
	@echo "Installing into .venv (torch and open3d are large; later runs take seconds) ..."
	@$(UV) sync --quiet --inexact --all-packages --python $(PYTHON)

demo: setup ## fit the face in a photograph and name the files written
	$(RUN)partfit fit examples/astronaut.jpg --out $(DEMO)
	@echo "Look at $(DEMO)/astronaut-overlay.png, open $(DEMO)/astronaut-0.glb in a 3D viewer. All files:"
	@ls -1 $(DEMO)/*

test: setup ## run the tests, in minutes
	HYPOTHESIS_PROFILE=$(or $(HYPOTHESIS_PROFILE),$(if $(CI),ci,dev)) $(RUN)python -m pytest -n 2 -m "not slow"

test-all: setup ## run the slow tests too, and ten times as many examples of each property
	@if command -v npm >/dev/null; then \
		npm install --prefix tests/gltf --no-audit --no-fund --silent || echo "No packages for tests/gltf: its tests are skipped."; \
	fi
	HYPOTHESIS_PROFILE=thorough $(RUN)python -m pytest -n 2

lint: setup ## check style and types
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)mypy

format: setup ## format the code
	$(RUN)ruff check --fix .
	$(RUN)ruff format .

docs: setup ## run the snippets of README and docs
	$(RUN)python -m pytest tests/test_docs.py

bench: setup ## measure the speed of this machine
	$(RUN)partfit bench --picture examples/astronaut.jpg

clean: ## remove what the set-up and the tests made
	rm -rf .venv .uv uv.lock tests/gltf/node_modules $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis
