# The face of the project: `make help` lists the targets. What is stale is the package's business, not make's.
PYTHON ?= python3
PROFILE ?= quick
export PARAMS  # to be read as text: a shell would run what it holds
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
CPU_BUILDS := https://download.pytorch.org/whl/cpu
FLOCK := $(shell command -v flock)
# Run a second time with every signature's types and shapes checked as it is called; a compiler cannot follow that.
TYPED := $(addprefix tests/test_,$(addsuffix .py,checks points heatmaps decode training)) tests/data tests/metrics tests/measures \
  $(filter-out %/test_autograd.py,$(wildcard tests/losses/test_*.py))

.DEFAULT_GOAL := help
.PHONY: help book test test-data test-faults test-cluster run serve clean lint types hooks lock plan record verify bench bench-decode bench-engine ready

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

book: $(READY)  ## run the chapters that are stale and build the book into _build/html (PROFILE=quick or full)
	$(BIN)/falloff book --profile $(PROFILE)
	$(BIN)/falloff pages
	@echo "the book: _build/html/index.html"

test: $(READY) lint types  ## lint, check types and shapes at run time, test, and open a small book in a browser
	$(BIN)/pytest -n auto --dist loadfile
	$(BIN)/pytest -n auto $(TYPED) -m "not (bad_input or graphs or every_set)" --jaxtyping-packages=falloff,typed.checked

test-data: $(READY)  ## run each chapter on each real set under FALLOFF_DATA: an hour or so, skipped where there is none
	$(BIN)/pytest -m "" tests/chapters/test_real_sets.py

test-faults: $(READY)  ## kill builds, workers and schedulers, fill disks: some eight minutes
	$(BIN)/pytest tests/faults

test-cluster: $(READY)  ## the same runs on a real Slurm of two nodes (Debian's slurm-wlm and munge, as root)
	$(BIN)/pytest tests/cluster

run: $(READY)  ## run one chapter: make run CHAPTER=04_distance_aware_loss PARAMS="sigma=3 beta=2", or FILE=mine.toml
	@test -n "$(CHAPTER)" || { echo 'which chapter? make run CHAPTER=06_head_to_head PARAMS="steps=100"'; exit 2; }
	@$(BIN)/falloff run --profile $(PROFILE) $(if $(FILE),--file "$(FILE)") --params "$$PARAMS" $(CHAPTER)

plan: $(READY)  ## say which chapters would run, and why
	@$(BIN)/falloff plan --profile $(PROFILE)

record verify: PROFILE := study
record: $(READY)  ## record the study in runs/recorded: make record EXPERIMENT=tuning, PROFILE=full DEVICE=cuda; DRY=1 forecasts
	$(BIN)/falloff record --profile $(PROFILE) $(if $(DEVICE),--device $(DEVICE)) $(if $(DRY),--dry) $(if $(PUBLISH),--publish) $(EXPERIMENT)

verify: $(READY)  ## train a sample of the recorded runs again and compare; ALL=1 for all of them
	$(BIN)/falloff verify --profile $(PROFILE) $(if $(DEVICE),--device $(DEVICE)) $(if $(ALL),--all) $(if $(EXACT),--exact)

serve: $(READY)  ## serve the built book on http://127.0.0.1:8000
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html 8000

lint: $(READY)  ## check the style of the code
	$(BIN)/ruff check

types: $(READY)  ## check the types of the package
	$(BIN)/mypy

hooks: $(READY)  ## check the style at every commit
	$(BIN)/pre-commit install

bench: $(VENV)/.bench  ## time the losses against reference formulas and other libraries in one run
	$(BIN)/python benchmarks/losses.py $(RECORD)

bench-decode: $(READY)  ## time the decoder against the maxima alone
	$(BIN)/python benchmarks/decode.py $(RECORD)

bench-engine: $(READY)  ## time what the engine adds to a run: some three minutes on a quiet machine
	$(BIN)/python benchmarks/engine.py $(RECORD)

clean:  ## remove the built book; runs/ is kept
	rm -rf _build .pytest_cache .ruff_cache .mypy_cache .hypothesis

lock:  ## renew requirements.lock and environment.yml from pyproject.toml with the newest versions that fit
	rm -rf $(VENV)-lock build
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet '.[study,book,test]'
	$(VENV)-lock/bin/pip freeze --all --exclude falloff --exclude pip | sed -E 's/^(torch==[0-9.]+)\+.*/\1/' > $(VENV)-lock/pins
	{ echo '# Every package that the project installs. Renewed by `make lock`: pip resolves pyproject.toml in an empty'; \
	  echo '# environment and freezes what came. Install with pip install -r requirements.lock.'; \
	  cat $(VENV)-lock/pins; } > requirements.lock
	{ echo '# The versions of requirements.lock for conda users: conda env create -f environment.yml'; \
	  echo 'name: near-misses'; echo 'channels: [conda-forge]'; echo 'dependencies:'; \
	  echo '  - python>=3.11'; echo '  - pip'; echo '  - pip:'; \
	  sed 's/^/      - /' $(VENV)-lock/pins; echo '      - -e .' ; } > environment.yml
	rm -rf $(VENV)-lock build

# Two at once on a bare clone: where there is flock, the second waits and finds it done.
$(READY): requirements.lock pyproject.toml
	@$(if $(FLOCK),$(FLOCK) .venv.lock) $(MAKE) --no-print-directory ready

# PyPI's PyTorch for Linux brings gigabytes of CUDA. Where no NVIDIA GPU is seen, and nobody told pip which index to use,
# PyTorch's own index of CPU builds comes first, and it alone: what pip's settings add would hide that it is out of reach.
ready:
	@if test $(READY) -nt requirements.lock && test $(READY) -nt pyproject.toml; then exit 0; fi; set -e; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; PYTHON=... names another")'; \
	echo "Setting up $(VENV): minutes, once"; \
	$(PYTHON) -m venv $(VENV); \
	torch=$$(grep ^torch== requirements.lock); \
	if $(BIN)/pip freeze | grep -F "$$torch" >/dev/null; then true; \
	elif $(BIN)/pip config list | grep -E '[.](index-url|no-index)=|env:[.]extra-index-url=' >/dev/null; then \
	  echo "PyTorch: from where pip is set to look"; \
	elif test -e /proc/driver/nvidia || test -e /dev/nvidia0 || command -v nvidia-smi >/dev/null; then \
	  echo "PyTorch: from pip's default index, with CUDA, for the NVIDIA GPU of this machine"; \
	elif PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= \
	  $(PIP) --timeout 5 --retries 0 --no-deps --index-url $(CPU_BUILDS) $$torch 2>/dev/null; then \
	  echo "PyTorch: the CPU build of $(CPU_BUILDS), as no NVIDIA GPU is seen"; \
	else \
	  echo "PyTorch: from pip's default index; no NVIDIA GPU is seen, but $(CPU_BUILDS) gave no CPU build"; \
	fi; \
	$(PIP) -r requirements.lock; \
	$(PIP) --no-deps --no-build-isolation --editable .; \
	touch $(READY)

$(VENV)/.bench: $(READY)
	$(PIP) -c requirements.lock '.[bench]' --no-build-isolation
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@
