# make demo and make test require only Python >= 3.10 and make.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DEMO ?= runs/demo
# Optional packages. To use another version: make extras TORCH=torch
TORCH ?= torch==2.13.0
JAX ?= jax[cpu]==0.10.2
# Two test files at a time: they spend most of their time tracing, which uses one core.
# Each process needs several gigabytes.
# In the order of the folders, which does not leave the slow files of few tests to the end.
PARALLEL ?= --numprocesses=auto --maxprocesses=2 --dist=loadfile --no-loadscope-reorder

# For example, MUTANTS="--sample=100 --seed=1 --subpackages attacks", or --report or --again.
MUTANTS ?= --sample=30

.DEFAULT_GOAL := help
.PHONY: help demo pictures test test-all test-backends mutants lint stubs tables format extras clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "inres-tf requires Python >= 3.10; use, for example, make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(INSTALLED)  ## Train, attack, compare and export three networks on digits
	$(BIN)/python -m train.reproduce --dataset=digits \
	  --models=resnet20,in_resnet20,lambda_in_resnet20 --seeds=0-2 --epochs=24 --batch_size=64 \
	  --learning_rate=0.02 --attacks=fgsm,pgd,apgd_ce --eps=4,8,16,32 --step_size=8 --restarts=2 \
	  --corruptions=all --output_dir=$(DEMO)
	@$(BIN)/python -m train.export --checkpoint=$(DEMO)/in_resnet20-seed0 \
	  --output=$(DEMO)/in_resnet20.savedmodel --overwrite > /dev/null
	@echo "SavedModel: $(DEMO)/in_resnet20.savedmodel"

pictures: demo  ## Update the demo's pictures in docs/; needs Playwright and Chromium
	cp $(DEMO)/accuracy_over_eps.png docs/images/demo_accuracy_over_eps.png
	$(BIN)/python benchmarks/report_pictures.py $(DEMO)/report.html --height=920 --output=build/pictures
	cp build/pictures/report_1280_light.png docs/images/report.png
	cp build/pictures/report_390_dark.png docs/images/report_phone.png
	$(BIN)/python benchmarks/report_pictures.py $(DEMO)/report.html --height=920 --section=attacks \
	  --output=build/pictures
	cp build/pictures/report_1280_dark.png docs/images/report_attacks.png

test: $(INSTALLED)  ## Run the tests
	$(BIN)/python -m pytest $(PARALLEL)

test-all: $(INSTALLED)  ## Run all tests, including the long ones
	$(BIN)/python -m pytest $(PARALLEL) -m ''

mutants: $(INSTALLED)  ## Mutation testing: list the small code changes that no test notices
	nice -n 5 $(BIN)/python benchmarks/mutants.py $(MUTANTS)

lint: $(INSTALLED)  ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

stubs: $(INSTALLED)  ## Regenerate zoo/__init__.pyi after a change to the zoo's names
	$(BIN)/python -m zoo._stubs

tables: $(INSTALLED)  ## Regenerate the tables in docs/ from the zoo and the cards
	$(BIN)/python -m train._tables

format: $(INSTALLED)  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test-backends: extras  ## Install JAX and PyTorch, test the models under them
	$(BIN)/python -m pip install --disable-pip-version-check $(JAX)
	$(BIN)/python -m pytest tests/backends_test.py

extras: $(INSTALLED)  ## Install PyTorch, for train.convert and the benchmarks
	$(BIN)/python -m pip install --disable-pip-version-check $(TORCH)

clean:  ## Delete the virtual environment and the demo's run
	rm -rf .venv $(DEMO)
