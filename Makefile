PYTHON ?= python3.11
VENV ?= .venv
PORT ?= 3000
EXTRA ?= cpu
IMAGE ?= vitrine
STATE ?= build/none
URL ?= http://127.0.0.1:3000
PIP = $(VENV)/bin/pip install --quiet --constraint requirements/constraints.txt
EVERYTHING = .[$(EXTRA),dev,train,imagenet,postgres,tracing,score,ray]
LOCK = uv pip compile pyproject.toml requirements/build.in --python-version 3.11 --no-header --upgrade

.DEFAULT_GOAL := help
.PHONY: help serve doctor test check format accuracy demo-drift bench bench-latency bench-training load soak models-page screenshots image bento lock clean

help:  ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

serve: $(VENV)/.serve  ## create .venv, install, serve the committed models on PORT (3000)
	$(VENV)/bin/vitrine serve --port $(PORT)

doctor: $(VENV)/.serve  ## say what this machine, these settings and these models are good for
	$(VENV)/bin/vitrine doctor

test: $(VENV)/.everything  ## create .venv with every extra, run all tests with coverage
	$(VENV)/bin/pytest --cov

check: $(VENV)/.everything  ## lint, format and types
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

format: $(VENV)/.everything  ## mend what ruff can mend
	$(VENV)/bin/ruff check --fix . ; $(VENV)/bin/ruff format .

accuracy: $(VENV)/.everything  ## every test image through URL, against the manifests (VITRINE_DATA; MODELS="NAME ..." or --all)
	$(VENV)/bin/python -m benchmarks.accuracy --url $(URL) $(MODELS)

demo-drift: $(VENV)/.everything  ## inverted and blurred images: accuracy and drift as Prometheus sees them
	$(VENV)/bin/python -m benchmarks.drift

bench: $(VENV)/.everything  ## throughput beside BentoML, LitServe, MLServer and Triton (wrk, two cores)
	$(VENV)/bin/python -m benchmarks.setup && $(VENV)/bin/python -m benchmarks.serving

bench-latency: $(VENV)/.everything  ## latency against offered load, ours and the peers'
	$(VENV)/bin/python -m benchmarks.setup && $(VENV)/bin/python -m benchmarks.latency

bench-training: $(VENV)/.everything  ## seconds to the same accuracy, from a notebook's loop to ours (CIFAR-10, VITRINE_DATA)
	$(VENV)/bin/python -m benchmarks.training

load: $(VENV)/.everything  ## load the service at URL with Locust; fails over a limit, writes load.html
	$(VENV)/bin/locust -f tests/load/locustfile.py --headless --host $(URL) --users 32 --spawn-rate 32 --run-time 30s --html load.html

soak: $(VENV)/.everything  ## minutes of mixed load: memory, pauses, bad answers
	$(VENV)/bin/python -m benchmarks.soak

models-page: $(VENV)/.everything  ## docs/models.md and docs/cards anew, on a quiet machine: the release and what STATE has; RUNS="FOLDER ..." counts runs of several seeds
	$(VENV)/bin/vitrine-train compare --state $(STATE) $(if $(RUNS),--runs $(RUNS))
	$(VENV)/bin/vitrine-train card --state $(STATE) --all --out docs/cards

screenshots: $(VENV)/.everything  ## the pictures of the page in docs/images, made by its browser test
	SCREENSHOTS=1 $(VENV)/bin/pytest --quiet tests/e2e/test_page.py

image:  ## build the container image (EXTRA=gpu for CUDA)
	docker build --build-arg EXTRA=$(EXTRA) --build-arg REVISION=$$(git rev-parse HEAD) --tag $(IMAGE) .

bento: $(VENV)/.serve  ## build a Bento from bentofile.yaml
	$(VENV)/bin/bentoml build

lock:  ## write requirements/ anew from pyproject.toml (needs uv)
	$(LOCK) --extra cpu --extra postgres --extra tracing --generate-hashes -o requirements/image-cpu.txt
	$(LOCK) --extra gpu --extra postgres --extra tracing --generate-hashes -o requirements/image-gpu.txt
	$(LOCK) --extra cpu --extra dev --extra train --extra imagenet --extra postgres --extra tracing --extra score --extra ray --no-annotate \
	  --constraint requirements/torch.txt -o requirements/constraints.txt
	sed -i 's/^\(torch==[0-9.]*\)+cpu$$/\1/' requirements/constraints.txt

clean:  ## remove the environment and everything built or cached
	rm -rf $(VENV) build dist *.egg-info .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: pyproject.toml requirements/constraints.txt | $(VENV)/bin/python
	test -e $(VENV)/.everything || $(PIP) --editable '.[$(EXTRA)]'
	@touch $@

$(VENV)/.everything: pyproject.toml requirements/constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '$(EVERYTHING)'
	@touch $@ $(VENV)/.serve
