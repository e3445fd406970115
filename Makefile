# Every target does its own set-up; a machine with Python 3.11+ and make is enough.
PYTHON ?= python3
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)

# uv reads none of pip's settings: hand a wheel folder configured for pip over to it.
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif

RUN := $(UV) run --no-sync

.PHONY: help setup demo test test-all lint docs bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet "uv>=0.5"

setup: $(filter .uv/bin/uv,$(UV)) ## install partfit, its plugins and the development tools into .venv
	$(UV) sync --quiet --all-packages --python $(PYTHON)
