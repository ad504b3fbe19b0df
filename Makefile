# `make demo` and `make test` need Python 3.11 or newer, git and make; they build what they use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TF_ENV := TF_CPP_MIN_LOG_LEVEL=3

.PHONY: env demo test test-quick lint lock package docs docs-outputs docs-pictures mutants random-plans \
    bench-mlperf bench-arena bench-c bench-allocation bench-qat bench-commands bench-codes \
    bench-determinism bench-fit bench-models keras-coverage \
    accuracy-tables memory-tables unet-table resnet8-table clean

env: $(VENV)/.ready

$(VENV)/.ready: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .[dev,demo]
	@touch $@

# tflite-runtime needs numpy 1 and tfmot needs Keras 2: each has an environment of its own.
.venv-edge/.ready: setup.py
	$(PYTHON) -m venv .venv-edge
	.venv-edge/bin/python -m pip install --quiet "tflite-runtime>=2.14" "numpy<2"
	@touch $@

.venv-tfmot/.ready: setup.py
	$(PYTHON) -m venv .venv-tfmot
	.venv-tfmot/bin/python -m pip install --quiet --upgrade pip
	.venv-tfmot/bin/python -m pip install --quiet -e .[dev,demo,tfmot]
	@touch $@

# Only its binding to CMSIS-NN's own buffer sizes is loaded, by tests/cmsis_nn_oracle.py.
$(VENV)/.oracle: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --no-deps executorch==1.5.1 \
	    || echo "no executorch for this machine: its tests are skipped"
	@touch $@

# Sphinx, the kernel of notebooks, and the libraries of the recipes.
$(VENV)/.docs: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet -e .[docs]
	@touch $@

demo: env
	$(TF_ENV) $(BIN)/python examples/demo.py

# Two processes take file by file, in the order of tests/conftest.py.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
test: env $(VENV)/.docs $(VENV)/.oracle .venv-edge/.ready .venv-tfmot/.ready
	$(TF_ENV) $(BIN)/python -m pytest $(PARALLEL)

# All but what is marked long, by tests/conftest.py or where it stands.
test-quick: env
	$(TF_ENV) $(BIN)/python -m pytest -q $(PARALLEL) -m "not long"

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The packages that Bazel uses, pinned anew.
lock: env
	$(BIN)/python tests/requirements_lock.py

# What a package index would get: built, checked, and installed into an empty environment.
package: env
	rm -rf _build/dist
	$(BIN)/python -m build --outdir _build/dist .
	$(BIN)/twine check --strict _build/dist/*
	$(BIN)/check-wheel-contents _build/dist/*.whl
	$(BIN)/python tests/install_check.py _build/dist/*.whl

# The site: pages generated from the code, every warning an error; then the notebooks run.
docs: $(VENV)/.docs
	$(TF_ENV) $(BIN)/sphinx-build -q -W --keep-going -d _build/doctrees docs _build/docs
	rm -rf out/notebooks && mkdir -p out && cp -r docs/notebooks out/notebooks
	PATH="$(CURDIR)/$(BIN):$$PATH" $(TF_ENV) $(BIN)/python -m pytest -q --nbmake --nbmake-timeout=600 out/notebooks

# What the commands in README and docs print, and the pictures, written anew.
docs-outputs: $(VENV)/.docs
	$(TF_ENV) $(BIN)/python docs/blocks.py

docs-pictures: $(VENV)/.docs
	$(BIN)/python docs/pictures.py

bench-mlperf: env
	$(BIN)/python benchmarks/bench_mlperf_tiny.py

bench-arena: env
	$(BIN)/python benchmarks/bench_arena.py

MODELS ?= ../shared/models/mlperf_tiny
bench-commands: env
	$(BIN)/python benchmarks/bench_commands.py $(wildcard $(MODELS)/*.tflite)

bench-determinism: env
	$(BIN)/python benchmarks/bench_determinism.py

# What the product makes of each .tflite file of a folder.
FOLDER ?= ../shared/models
OPTIONS ?=
bench-models: env
	$(BIN)/python benchmarks/bench_models.py $(FOLDER) $(OPTIONS)

bench-fit: env
	$(TF_ENV) $(BIN)/python benchmarks/bench_fit.py

bench-allocation: env
	$(BIN)/python benchmarks/bench_allocation.py

# Random graphs through all of fmc plan for a board of every kernel library; N of each kind.
N ?= 100
random-plans: env
	$(BIN)/python -m tests.random_plans --count $(N)

# Needs qemu-system-arm and gcc-arm-none-eabi.
bench-c: env
	$(BIN)/python benchmarks/bench_c.py

bench-codes: env
	$(TF_ENV) $(BIN)/python benchmarks/bench_codes.py

# Damages small models in N ways; every one must end with exit status 0, 1 or 2.
N ?= 20000
mutants: env
	$(BIN)/python benchmarks/bench_mutants.py --first 0 --count $(N)

bench-qat: env .venv-tfmot/.ready
	$(TF_ENV) $(BIN)/python benchmarks/bench_qat.py

# Both are long; they go on where they were stopped.
accuracy-tables: env
	$(TF_ENV) $(BIN)/python examples/accuracy_tables.py

memory-tables: env
	$(TF_ENV) $(BIN)/python examples/memory_tables.py

# Hours on two cores; goes on where it was stopped.
unet-table: env
	$(TF_ENV) $(BIN)/python examples/unet_segmentation.py

# Hours on one core; goes on where it was stopped. OPTIONS="--data FILE --weights FILE"
resnet8-table: env
	$(TF_ENV) $(BIN)/python examples/resnet8_tables.py $(OPTIONS)

MODEL_DEFINITIONS ?= ../shared/cases/keras/models.py
keras-coverage: env
	$(TF_ENV) $(BIN)/python examples/keras_coverage.py --models $(MODEL_DEFINITIONS)

clean:
	rm -rf $(VENV) .venv-edge .venv-tfmot _build *.egg-info
