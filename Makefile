# make demo    the whole pipeline on synthetic data, CPU, minutes
# make tour    the same with every kind of method
# make test    lint and tests; ARGS="-k name" runs some tests and no lint
# make quick   lint and the tests that start no programs
# make plan    what `snakemake results/table.csv` would run and why, in words; ARGS="..." for other targets or configs
# make lint    ruff, mypy, snakefmt, snakemake --lint
# PYTHON=python3.12 make demo    another interpreter for the environment
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
SHELL := /bin/bash

.PHONY: demo tour plan test quick lint format bench clean-demo

$(BIN)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements.txt
	touch $@

demo tour: $(BIN)/.installed
	snakemake --cores all --configfile config/$@.yaml --quiet rules || { grep -rhA3 "refused:" results/$@/logs; exit 1; }
	@echo
	@cat results/$@/table.md
	@echo "page      results/$@/report.html"
	@echo "table     results/$@/table.csv (and table.md)"
	@echo "plots     results/$@/plots/synthetic-val/ and synthetic-otb/"
	@echo "overlays  results/$@/<benchmark>/<entry>/overlay.png"
	@echo "papers    results/$@/paper/"

plan: $(BIN)/.installed
	@python -m scripts.plan $(or $(ARGS),results/table.csv)

# Two processes run the tests; where there is a SLURM, six more wait for it. Each file stays in one process (order: conftest.py).
WORKERS ?= $(if $(shell PATH="$$PATH:/usr/sbin" command -v slurmctld),8,2)
PYTEST := pytest --dist loadfile --no-loadscope-reorder --durations 15

SUB := $(MAKE) --no-print-directory
# lint beside the tests; what it says comes after what they say
beside_lint = log=$$(mktemp); $(SUB) lint > $$log 2>&1 & lint=$$!; $(1); tests=$$?; wait $$lint; linted=$$?; \
	cat $$log; rm $$log; exit $$((tests || linted))

test: $(BIN)/.installed
	@$(if $(ARGS),$(PYTEST) -n 2 $(ARGS),$(call beside_lint,$(PYTEST) -n $(WORKERS)))

quick: $(BIN)/.installed
	@$(call beside_lint,$(PYTEST) -n 2 -m "not programs")

lint: $(BIN)/.installed
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint --configfile config/tour.yaml

format: $(BIN)/.installed
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

bench: $(BIN)/.installed
	python benchmarks/propagation.py
	python benchmarks/metrics.py
	python benchmarks/planning.py
	python benchmarks/checks.py
	python benchmarks/tracking.py
	python benchmarks/segmentation.py --height 192 --width 336

clean-demo:
	rm -rf results/demo results/tour
