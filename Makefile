# Each of demo, test, bench and lint sets itself up on a bare Debian 12 or 13: packaging/setup.sh.
# DEBIAN=13 runs deb, booted and bare with that release (packaging/root.sh); else it is 12.
# ARGS= goes to the program that runs:  make test ARGS='-k plan -x'
python = .venv/bin/python
ARGS =
export DEBIAN
SECONDS = 60
SCRIPTS = $(shell grep -rlE --exclude=Makefile '^\#(! ?/bin/sh| shellcheck shell=)' .ci packaging hotplug if-up.d etc tests/networks/classic 2>/dev/null)

.PHONY: help setup demo test booted bare browser coverage mutate fuzz chaos longrun lint format bench check deb screens guides figures clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo     two uplinks, one connection over both, a plug pulled and put back'
	@echo 'make test     the tests'
	@echo 'make booted   the tests that boot a Debian with systemd'
	@echo 'make browser  the pages for Cockpit and LuCI in a real browser'
	@echo 'make bare     make demo in a bare Debian, DEBIAN=12 or 13; ARGS= another command'
	@echo 'make lint     ruff, mypy and shellcheck'
	@echo 'make check    test and lint'
	@echo 'make coverage what the tests reach: 100 % of the pure core, 90 % of the whole'
	@echo 'make mutate   whether a test notices each small change of plan and diff'
	@echo 'make chaos    everything that can happen, at random and together, for SECONDS=60'
	@echo 'make longrun  60,000 events, and what the daemon grows by'
	@echo 'make fuzz     made-up input for SECONDS=60, each target its share'
	@echo 'make bench    speed and memory beside ip, the classic script and mptcpd'
	@echo 'make deb      the Debian package, in .build/deb'
	@echo 'make screens  the screens in docs/, printed anew in the laboratory'
	@echo 'make guides   run the networks of docs/networks again, into their guides'
	@echo 'make figures  measure and draw docs/figures'
	@echo 'make format   lay the code out as lint wants it'
	@echo 'make clean    remove what these made'

setup:
	@packaging/setup.sh

demo: setup
	@$(python) -m tests.demo $(ARGS)

test:
	@packaging/setup.sh unpack
	@$(python) -m pytest $(ARGS)

# With atheris in .venv, guided by coverage.
fuzz: setup
	@$(python) -m tests.fuzz --seconds $(SECONDS) $(ARGS)

# On the real kernel: SECONDS=, ROUNDS= at most, SEED= of the first fifty rounds.
chaos: setup
	@$(python) -m tests.chaos --seconds $(SECONDS) $(ROUNDS:%=--rounds %) $(SEED:%=--seed %) $(ARGS)

longrun: setup
	@$(python) -m tests.chaos.longrun $(SEED:%=--seed %) $(ARGS)

booted:
	@packaging/setup.sh unpack
	@$(python) -m pytest tests/booted $(ARGS)

browser:
	@packaging/setup.sh browser
	@$(python) -m pytest tests/browser $(ARGS)

# The committed state alone, set up from nothing:  make bare DEBIAN=13 ARGS='make test'
bare:
	@packaging/bare.sh $(ARGS)

# ARGS=core: only the pure core, by the tests that need no root.
coverage:
	@packaging/setup.sh unpack
	@$(python) -m tests.coverage $(ARGS)

mutate: setup
	@$(python) -c 'import mutmut' 2>/dev/null || $(python) -m pip install --quiet \
		--disable-pip-version-check --no-cache-dir --editable '.[mutate]'
	@rm -rf mutants
	@$(python) -m mutmut run --max-children 1 $(ARGS)
	@$(python) -m mutmut results

lint: setup
	@$(python) -m ruff check .
	@$(python) -m ruff format --check .
	@$(python) -m mypy
	@shellcheck --shell=dash $(SCRIPTS)

format: setup
	@$(python) -m ruff check --fix .
	@$(python) -m ruff format .

bench:
	@packaging/setup.sh unpack
	@$(python) -m bench $(ARGS)

deb: setup
	@packaging/deb.sh

screens: setup
	@$(python) -m tests.docs.reference
	@$(python) -m tests.docs.screens $(ARGS)

# Runs the networks of docs/networks and writes what they print and measure into their guides.
guides:
	@packaging/setup.sh unpack
	@MPROUTD_GUIDES=write $(python) -m pytest tests/networks $(ARGS)

# Draws docs/figures from runs of its own.
figures:
	@packaging/setup.sh unpack
	@$(python) -c 'import matplotlib' 2>/dev/null || $(python) -m pip install --quiet \
		--disable-pip-version-check --no-cache-dir --editable '.[figures]'
	@$(python) -m tests.networks.figures $(ARGS)

check: lint test

clean:
	rm -rf .venv .build mutants build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
	find mproutd tests bench -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
