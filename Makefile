# make demo and make test need nothing but Python >= 3.10 and make.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DEMO ?= runs/demo
# What only some need; another version can be named: make extras TORCH=torch
TORCH ?= torch==2.13.0
JAX ?= jax[cpu]==0.10.2
# Two files of tests at a time: most of their time is tracing, which takes one core.
# A process takes some gigabytes.
PARALLEL ?= --numprocesses=auto --maxprocesses=2 --dist=loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-backends lint format extras clean

help:  ## Show what there is to make
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "inres-tf needs Python >= 3.10; call make PYTHON=python3.11, say" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(INSTALLED)  ## Train, attack, compare and export three networks on digits
	$(BIN)/python -m train.reproduce --dataset=digits \
	  --models=resnet20,in_resnet20,lambda_in_resnet20 --epochs=24 --batch_size=64 --learning_rate=0.02 \
	  --eps=4,8,16,32 --step_size=2 --output_dir=$(DEMO)
	@$(BIN)/python -m train.export --checkpoint=$(DEMO)/in_resnet20-seed0 \
	  --output=$(DEMO)/in_resnet20.savedmodel --overwrite > /dev/null
	@echo "SavedModel: $(DEMO)/in_resnet20.savedmodel"

test: $(INSTALLED)  ## Run the tests
	$(BIN)/python -m pytest $(PARALLEL)

test-all: $(INSTALLED)  ## Run the long tests as well
	$(BIN)/python -m pytest $(PARALLEL) -m ''

lint: $(INSTALLED)  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test-backends: extras  ## Install JAX and PyTorch, run the models under them
	$(BIN)/python -m pip install --disable-pip-version-check $(JAX)
	$(BIN)/python -m pytest tests/backends_test.py

extras: $(INSTALLED)  ## Install PyTorch, which only train.convert needs
	$(BIN)/python -m pip install --disable-pip-version-check $(TORCH)

clean:  ## Delete what make installed and the demo's run
	rm -rf .venv $(DEMO)
