# make demo    the whole pipeline on synthetic data, CPU, minutes
# make test    lint and tests
# make plan    what `snakemake results/table.csv` would run and why, in words; ARGS="..." for other targets or configs
# make lint    ruff, mypy, snakefmt, snakemake --lint
# PYTHON=python3.12 make demo    another interpreter for the environment
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
SHELL := /bin/bash

.PHONY: demo plan test lint format bench clean-demo

$(BIN)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements.txt
	touch $@

demo: $(BIN)/.installed
	snakemake --cores all --configfile config/demo.yaml --quiet rules || { grep -rhA3 "refused:" results/demo/logs; exit 1; }
	@echo
	@cat results/demo/table.md
	@echo "page      results/demo/report.html"
	@echo "table     results/demo/table.csv (and table.md)"
	@echo "plots     results/demo/plots/synthetic-val/ and synthetic-otb/"
	@echo "overlays  results/demo/<benchmark>/<entry>/overlay.png"
	@echo "papers    results/demo/paper/"

plan: $(BIN)/.installed
	@python -m scripts.plan $(or $(ARGS),results/table.csv)

test: lint
	pytest -n 2 --dist loadfile --durations 15

lint: $(BIN)/.installed
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint --configfile config/demo.yaml

format: $(BIN)/.installed
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

bench: $(BIN)/.installed
	python benchmarks/propagation.py
	python benchmarks/metrics.py
	python benchmarks/planning.py
	python benchmarks/tracking.py
	python benchmarks/segmentation.py --height 192 --width 336

clean-demo:
	rm -rf results/demo
