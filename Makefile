# Everything sets up its own environment first; a second call finds it ready and goes straight to work.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp-$(shell sha256sum requirements.lock pyproject.toml 2>/dev/null | sha256sum | cut -c1-16)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_QUIET := 2

.DEFAULT_GOAL := help
.PHONY: help setup run test lint types imports check docs lock images up-stack down-stack test-containers clean

help:  ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## set up the environment (.venv)

# pip takes torch: it honours a CPU build that the machine offers, which uv would pass over for the CUDA one.
# Bytecode now: stages never write any, and without it each of them compiles transformers anew.
$(STAMP):
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: install it or say make PYTHON=/path/to/python3.11"; exit 64; }
	@echo "setting up $(VENV) (once; a minute or two with a fast network)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install uv==0.13.8
	@$(BIN)/pip install "$$(grep '^torch==' requirements.lock)"
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.stamp-* && touch $@

run: setup  ## the whole pipeline on the embedded data: ends with a registered student and a report
	@$(BIN)/kd run

test: setup  ## all tests
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

lint: setup  ## ruff: style, bugs, security, Airflow 3 rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check dags --select AIR3

types: setup  ## mypy, strict
	@$(BIN)/mypy

imports: setup  ## the layers hold
	@$(BIN)/lint-imports

check: lint types imports  ## lint, types and imports

docs: setup  ## write the generated parts of the documentation anew
	@$(BIN)/python -m doc_pages

lock: setup  ## resolve requirements.in anew into requirements.lock
	@UV_FIND_LINKS="$$($(BIN)/pip config get global.find-links 2>/dev/null)" $(BIN)/uv pip compile --quiet --upgrade \
	  --python $(BIN)/python --no-header --no-annotate requirements.in | sed 's/+cpu//' > requirements.lock.new
	@mv requirements.lock.new requirements.lock

images:  ## build the container images from the files of HEAD (needs Docker)
	@sh docker/build.sh

up-stack:  ## start the whole stack on this machine: PostgreSQL, S3, MLflow, Airflow with the runner docker
	@sh docker/stack.sh up

down-stack:  ## stop it; its volumes stay
	@sh docker/stack.sh down

test-containers: setup  ## build the images and test them with a real engine; skipped, saying so, where there is none
	@KD_TEST_CONTAINERS=1 $(BIN)/python -m pytest -q tests/containers

clean:  ## remove the environment and all runs, caches and registered models of the embedded default
	rm -rf $(VENV) .kd
