# Everything runs in .venv, which the first target that needs it sets up.
# torch is installed first and on its own, so that nothing else ever chooses its build.
# The links stand beside pip's editable install, which is an import hook: mypy and editors do not see through one.

PYTHON ?= python3
ROWS ?= $(wildcard ../shared/data/plan/*.csv)
BIN := .venv/bin
READY := .venv/ready
SERVERS := .venv/ready-servers
BACKENDS := .venv/ready-backends

.PHONY: help setup test test-all demo lint format bench bench-plan docs clean

help:
	@echo "make setup     create .venv and install fyc with its development tools"
	@echo "make test      the test suite (under 15 minutes on 2 cores)"
	@echo "make test-all  the suite with its slow and large parts"
	@echo "make demo      convert a real model, print what it cost, generate a sentence (under 10 minutes)"
	@echo "make lint      ruff, mypy and the import contract"
	@echo "make format    let ruff format the code"
	@echo "make bench     the measurements behind docs/benchmarks.md; takes hours"
	@echo "make bench-plan ROWS=FILE  how good the predictions of \`fyc plan\` are on measured rows"
	@echo "make docs      write the generated pages of the documentation again"
	@echo "make clean     remove .venv and caches"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fyc needs Python 3.11 or newer; try: make PYTHON=python3.12")'
	@echo "setting up .venv: a few minutes, most of them for torch"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	mkdir -p .venv/links
	ln -sfn '$(CURDIR)/fyc' .venv/links/fyc
	for part in passes kernels plugins recipes; do ln -sfn "$(CURDIR)/$$part" ".venv/links/fyc_$$part"; done
	$(BIN)/python -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "fyc-links.pth").write_text("$(CURDIR)/.venv/links\n")'
	touch $@
	@echo "done; \`source .venv/bin/activate\` puts fyc on the PATH, \`fyc doctor\` looks at it, \`make test\` runs the tests"

test: $(READY)
	$(BIN)/python -m pytest -m "not slow"

test-all: $(READY)
	@$(MAKE) --no-print-directory $(SERVERS) || echo "the servers of language models cannot be installed: their tests say so and are skipped"
	@$(MAKE) --no-print-directory $(BACKENDS) || echo "the training frameworks and Ray cannot be installed: their tests say so and are skipped"
	$(BIN)/python -m pytest

# llama-cpp-python is compiled here, without its parts for images.
$(SERVERS): $(READY)
	@echo "installing servers of language models: about five minutes, in which llama-cpp-python is compiled"
	CMAKE_ARGS=-DLLAVA_BUILD=OFF PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,servers]'
	touch $@

# DeepSpeed builds its kernels when they are first used, not here.
$(BACKENDS): $(READY)
	@echo "installing training frameworks that launch scripts are tested with, and Ray: under a minute"
	DS_BUILD_OPS=0 PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,backends]'
	touch $@

demo: $(READY)
	$(BIN)/python examples/demo.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/memory.py
	$(BIN)/python bench/perplexity.py asset:smollm2-135m

bench-plan: $(READY)
	@test -n '$(ROWS)' || { echo 'say which rows: make bench-plan ROWS="measured.csv more.csv"; docs/plan.md lists the columns'; exit 2; }
	$(BIN)/python bench/plan.py $(ROWS) $(if $(CALCULON),--calculon $(CALCULON))

docs: $(READY)
	$(BIN)/python docs/generate.py

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
