# The two commands of the README, with all of their set-up:
#   make demo    a small embryo, denoised, with a picture
#   make test    every check and test
# and make docs   the documentation as a site, in build/docs
# The environment is built in .venv and kept until a source file changes.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
SOURCES := pyproject.toml README.md LICENSE $(shell find cpp pipeline configs slurm -type f \
	-not -name '*.pyc' -not -name '*.so')
CXX_FILES := $(shell find cpp tests/cpp -name '*.cpp' -o -name '*.hpp')

BENCHMARKS := $(wildcard $(patsubst %,tests/benchmarks/%.py,quality speed memory scaling stages pipeline))

.PHONY: demo test lint test-cpp test-python docs benchmarks clean
.NOTPARALLEL:

demo: .venv/installed
	$(BIN)/denoise5d demo

test: lint test-cpp test-python

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)

test-cpp: .venv/installed
	$(BIN)/cmake -S cpp -B build/sanitize -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) \
		-DCMAKE_BUILD_TYPE=RelWithDebInfo -DDENOISE5D_PYTHON=OFF -DDENOISE5D_TESTS=ON \
		-DDENOISE5D_SANITIZE=address,undefined
	$(BIN)/cmake --build build/sanitize
	$(BIN)/ctest --test-dir build/sanitize --output-on-failure

test-python: .venv/installed
	$(BIN)/pytest

# As tests/test_site.py builds it.
docs: .venv/installed
	$(BIN)/python -m sphinx -q -E -a -W --keep-going docs build/docs
	@echo "open build/docs/index.html"

# Takes up to an hour, and installs packages for non-commercial use (see the extra in pyproject.toml).
benchmarks: .venv/installed
	$(BIN)/python -m pip install --quiet '.[bench]'
	set -e; for file in $(BENCHMARKS); do $(BIN)/python $$file; done
	$(BIN)/python tests/benchmarks/performance.py

.venv/installed: $(SOURCES) | machine
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet '.[docs,report,test]'
	touch $@

# Names what the machine lacks, with the command that installs it.
.PHONY: machine
machine:
	@missing=; \
	if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11 or newer is missing: apt-get install python3 (Debian 12, Ubuntu 24.04)," \
			"or give one: make PYTHON=/path/to/python3"; exit 1; fi; \
	version=$$($(PYTHON) -c 'import sys; print("python%d.%d" % sys.version_info[:2])'); \
	$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || missing="$$missing $$version-venv"; \
	$(PYTHON) -c 'import os, sys, sysconfig; \
		sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
		|| missing="$$missing $$version-dev"; \
	command -v $${CXX:-c++} >/dev/null || missing="$$missing g++"; \
	if [ -n "$$missing" ]; then \
		echo "missing on this machine:$$missing"; \
		echo "install it with: sudo apt-get install -y$$missing"; exit 1; fi

clean:
	rm -rf .venv build demo
