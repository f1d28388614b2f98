# Every target sets up what it needs; a second run finds it and starts at once.

.DEFAULT_GOAL := help
.PHONY: help demo test test-python fuzz check check-pyright check-mypy check-style bench bench-guard

# Without compiled files, each process that runs tests compiles pytest's plugins again.
unexport PYTHONDONTWRITEBYTECODE

# PYTHON=3.13 takes that version, in an environment of its own.
VENV := .venv$(addprefix -,$(filter 3.%,$(PYTHON)))/bin

help: ## Tell what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Serve a small chat over wss and say how to open it; Ctrl-C ends it
	@scripts/setup-python run
	@$(VENV)/python examples/demo.py

test: ## Run all tests, two per core at a time; ARGS="-k word" for some, PYTHON=3.13
	@scripts/setup-system
	@scripts/setup-python $(or $(TOOLS),dev)
	@scripts/setup-node $(VENV)/python
	$(VENV)/python -m pytest --numprocesses auto --dist worksteal $(ARGS)

# What depends on Python itself: its event loop, ssl, signals, fork, subprocesses and types. The rest
# starts the same processes on another Python, which takes four times as long. The layers of the source
# and the pages of the documentation are the same on each.
ON_EVERY_PYTHON := $(filter-out $(addprefix tests/test_,architecture.py docs.py), \
	$(wildcard tests/test_*.py)) tests/acme/test_network.py \
	tests/doctor/network/test_tls_client.py \
	$(addprefix tests/,bus clients cluster config fuzz gateway history http net protocols runtime tls \
		websocket) \
	$(addprefix tests/master/test_,channel.py child.py daemon.py orphan.py script.py \
		selector_loop.py signal_wakeup.py spawn.py) \
	$(addprefix tests/system/test_,conformance.py forked_children.py reading.py shutdown.py \
		threads.py vanishing.py)

test-python: ## Run the tests of what depends on Python itself; PYTHON=3.13
	@$(MAKE) --no-print-directory test TOOLS=test ARGS="$(ON_EVERY_PYTHON) $(ARGS)"

fuzz: ## Run the property tests with ever new examples, for SECONDS=60
	@scripts/setup-python dev
	@$(VENV)/python -m tests.fuzz $(or $(SECONDS),60)

check: ## Check format, style, types and layers, at the same time
	@scripts/setup-python dev
	@$(MAKE) --no-print-directory --jobs --output-sync check-pyright check-mypy check-style

check-pyright:
	$(VENV)/basedpyright --pythonpath $(VENV)/python

check-mypy:
	$(VENV)/mypy

check-style:
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/lint-imports --no-logo

bench: ## Measure gateman beside what you would pick instead; QUICK=1 is under three minutes
	@scripts/setup-system
	@scripts/setup-python dev
	@bench/install
	@QUICK=$(QUICK) bench/.venv/bin/python bench/suite.py $(ARGS)

bench-guard: ## Compare with the last release, or BASE=revision, in one paired run
	@scripts/setup-system
	@scripts/setup-python dev
	@bench/install
	@QUICK=$(QUICK) bench/.venv/bin/python bench/guard.py $(BASE)
