# Every target installs what it needs on a plain Debian 12 or 13 (packaging/setup.sh).
# DEBIAN=13 selects the release for deb, booted and bare (packaging/root.sh); the default is 12.
# ARGS goes to the program that the target runs:  make test ARGS='-k plan -x'
python = .venv/bin/python
ARGS =
export DEBIAN PYTHONS
SECONDS = 60
SCRIPTS = $(shell grep -rlE --exclude=Makefile '^\#(! ?/bin/sh| shellcheck shell=)' .ci packaging hotplug if-up.d etc tests/networks/classic tests/qemu 2>/dev/null)

.PHONY: help setup demo test pythons far-end fleet ansible booted bare browser pair kernels kernels-smoke coverage mutate fuzz chaos longrun overflow lint format bench bench-exact bench-scale check deb dist screens messages guides figures docs clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo      two uplinks, one MPTCP connection, a cable unplugged and plugged in again'
	@echo 'make test      run the tests'
	@echo 'make pythons   run the tests that need no root on Python 3.11, 3.13 and 3.14'
	@echo 'make far-end   measure twenty gateways at one server, and write it into docs/far-end.md'
	@echo 'make fleet     200 gateways in a real Prometheus: sizes, times, alerts and dashboards'
	@echo 'make ansible   run the Ansible roles against booted machines, Debian 12 and 13'
	@echo 'make booted    run the tests that boot a Debian with systemd'
	@echo 'make pair      run two gateways with keepalived and conntrackd: one fails in every way'
	@echo 'make browser   run the tests of the Cockpit and LuCI pages in a real browser'
	@echo 'make bare      run make demo, or ARGS, in a bare Debian (DEBIAN=12 or 13)'
	@echo 'make kernels   run the demo and tests on the kernels of three Debian releases, in qemu'
	@echo 'make lint      run ruff, mypy and shellcheck'
	@echo 'make check     lint and test'
	@echo 'make coverage  measure coverage: 100 % of the pure core and 90 % of everything are required'
	@echo 'make mutate    mutation testing of plan and diff'
	@echo 'make chaos     random events and faults on a gateway, for SECONDS=60'
	@echo 'make longrun   60,000 events; reports the growth in memory, descriptors and threads'
	@echo 'make overflow  changes of the mode and a saw-tooth load; reports stalls and lost subflows'
	@echo 'make fuzz      fuzz every parser for SECONDS=60 in all'
	@echo 'make bench     measure speed and memory against ip, the classic scripts and mptcpd;'
	@echo '               BASE=REV compares with that revision instead, the two in turns'
	@echo 'make bench-scale  what many uplinks, addresses, connections and routes cost'
	@echo 'make bench-exact BASE=REV   compare the instructions that two revisions run, in qemu'
	@echo 'make deb       build the Debian package into .build/deb'
	@echo 'make dist      build wheel and sdist into .build/dist'
	@echo 'make docs      build the documentation as a site into .build/site'
	@echo 'make screens   regenerate the sample output in docs/'
	@echo 'make messages  gather the texts of the pages, and make their translations'
	@echo 'make guides    run the networks of docs/networks and update the output in their guides'
	@echo 'make figures   measure again and redraw docs/figures'
	@echo 'make format    format the code and apply the fixes of ruff'
	@echo 'make clean     remove everything these targets made'

setup:
	@packaging/setup.sh

demo: setup
	@$(python) -m tests.demo $(ARGS)

# Two files at a time, since most tests wait for the kernel; ARGS='-n 0' for one after the other.
test:
	@packaging/setup.sh unpack
	@$(python) -m pytest -n 2 --dist loadfile $(ARGS)

# Guided by coverage if atheris is installed in .venv.
fuzz: setup
	@$(python) -m tests.fuzz --seconds $(SECONDS) $(ARGS)

# On the real kernel.  SECONDS= and ROUNDS= limit the run; SEED= is that of the first 50 rounds.
chaos: setup
	@$(python) -m tests.chaos --seconds $(SECONDS) $(ROUNDS:%=--rounds %) $(SEED:%=--seed %) $(ARGS)

# 200 changes of the mode under load, and a saw-tooth load for two minutes.
overflow: setup
	@$(python) -m tests.chaos.overflow $(ARGS)

longrun: setup
	@$(python) -m tests.chaos.longrun $(SEED:%=--seed %) $(ARGS)

# PYTHONS='3.13 3.15' selects the versions.
pythons:
	@packaging/pythons.sh $(ARGS)

# Two minutes; nothing else should run meanwhile.  ARGS='--clients 5 --seconds 5'
far-end:
	@packaging/setup.sh unpack
	@$(python) -m tests.networks.fleet --write $(ARGS)

# A quarter of an hour; nothing else should run meanwhile.  ARGS=--write puts it into docs/fleet.md.
fleet:
	@packaging/setup.sh fleet
	@$(python) -m pytest tests/fleet tests/fleet/grafana.py
	@$(python) -m tests.fleet $(ARGS)

ansible:
	@packaging/setup.sh ansible
	@$(python) -m pytest tests/ansible $(ARGS)

booted:
	@packaging/setup.sh unpack
	@$(python) -m pytest tests/booted $(ARGS)

# MPROUTD_GUIDES=write puts the figures into docs/pair.md.
pair:
	@packaging/setup.sh unpack
	@$(python) -m pytest tests/pair $(ARGS)

browser:
	@packaging/setup.sh browser
	@$(python) -m pytest tests/browser $(ARGS)

# A checkout of HEAD, set up from scratch:  make bare DEBIAN=13 ARGS='make test'
bare:
	@packaging/bare.sh $(ARGS)

# ARGS: empty, all, chaos, smoke, features, or what pytest gets; see tests/qemu/__main__.py.
# KERNELS='6.1 sid host' selects versions, Debian suites or the kernel of this machine.
KERNELS =
kernels:
	@packaging/setup.sh kernels
	@$(python) -m tests.qemu --kernels '$(KERNELS)' $(ARGS)

# A few minutes: what each kernel can do, the demo, and a handful of tests.  Skipped, with one line,
# where there can be no guests.
kernels-smoke:
	@packaging/setup.sh unpack
	@packaging/setup.sh kernels || :
	@$(python) -m tests.qemu --kernels '$(KERNELS)' smoke

# ARGS=core: only the pure core, with the tests that do not need root.
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
	@$(python) -m bench $(BASE:%=--base %) $(ARGS)

# In qemu, whose clock counts instructions: the ratios are right to 1 % on a busy machine too.
# ARGS: all, events, programs, where (a profile of a pass) or calls (system calls).
bench-exact:
	@packaging/setup.sh unpack
	@packaging/setup.sh kernels
	@$(python) -m bench.exact $(BASE:%=--base %) $(ARGS)

# Five minutes.  ARGS=--write puts table and figure into docs; names and --largest=N select.
bench-scale:
	@packaging/setup.sh unpack
	@$(python) -m bench.scale $(ARGS)

deb: setup
	@packaging/deb.sh

dist: setup
	@$(python) -c 'import build, twine' 2>/dev/null || $(python) -m pip install --quiet \
		--disable-pip-version-check --no-cache-dir --editable '.[dist]'
	@rm -rf .build/dist
	@$(python) -m build --outdir .build/dist . >/dev/null
	@$(python) -m twine check --strict .build/dist/*

screens: setup
	@$(python) -m tests.docs.reference
	@$(python) -m tests.docs.screens $(ARGS)
	@packaging/setup.sh browser
	@$(python) -m tests.browser.screens

messages: setup
	@$(python) packaging/messages.py

# Output goes into docs/networks, measurements into docs/performance.md.
guides:
	@packaging/setup.sh unpack
	@MPROUTD_GUIDES=write $(python) -m pytest tests/networks $(ARGS)

# Draws docs/figures from runs made for the purpose.
figures:
	@packaging/setup.sh unpack
	@$(python) -c 'import matplotlib' 2>/dev/null || $(python) -m pip install --quiet \
		--disable-pip-version-check --no-cache-dir --editable '.[figures]'
	@$(python) -m tests.networks.figures $(ARGS)

# Warnings are errors; the pages load nothing from other sites.
docs: setup
	@$(python) -c 'import material' 2>/dev/null || $(python) -m pip install --quiet \
		--disable-pip-version-check --no-cache-dir --editable '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(python) -m mkdocs build --strict --config-file packaging/mkdocs.yml

check: lint test

clean:
	rm -rf .venv .build mutants build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
	find mproutd tests bench -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
