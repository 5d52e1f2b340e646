# make run     set up and open the program                make test    set up and run every check
# make lint    the checks that start nothing              make bench   the figures of docs/performance.md
# make audit   known faults of the packages, where the list of advisories answers
# make soak    the tests, larger (CLINIC_SOAK=10)         make train   how a model is made, stage by stage
# make bundle  build what a clinic gets, into dist/       make bundle-test   drive what was built
# make bundle-windows, make bundle-windows-test           the same for Windows, under Wine (packaging/README.md)
# make messages   the catalogs of the languages, extracted and compiled
# make clean   remove what these made; never a clinic's data
#
# CLINIC_PYTHON names the interpreter to use; without it Python 3.11 or 3.12 is found by name.

SHELL := /bin/sh
.DEFAULT_GOAL := run
.PHONY: run test check lint audit format messages bench soak train bundle bundle-test bundle-windows bundle-windows-test clean

RUN := .venv/bin/python
DEV := .venv-dev/bin/python
ARGS ?=
JOBS ?= 2
LANGUAGES := fr pt es sw hi ar

# A name on the PATH may be a shim that fails when called, and a Debian Python may lack venv: so each is tried.
define find_python
for name in "$$CLINIC_PYTHON" python3.11 python3.12 python3 python; do \
	[ -n "$$name" ] || continue; \
	if "$$name" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; \
	then python=$$name; break; fi; \
	[ "$$name" != "$$CLINIC_PYTHON" ] || { echo "CLINIC_PYTHON ($$name) is not Python 3.11 or 3.12 with venv." >&2; exit 1; }; \
done; \
[ -n "$$python" ] || { echo "Python 3.11 or 3.12 with venv is needed (Debian: apt-get install python3 python3-venv)." >&2; exit 1; }
endef

# $(call environment,FOLDER,REQUIREMENTS): the stamp is written last, so a broken download is taken up again,
# and an environment whose making was broken off (no pip in it yet) is made anew.
define environment
@$(find_python); \
$(1)/bin/python -m pip --version >/dev/null 2>&1 || "$$python" -m venv --clear $(1)
$(1)/bin/python -m pip install --disable-pip-version-check --quiet -r $(2)
@touch $@
endef

run: .venv/installed
	$(RUN) run_clinic.py $(ARGS)

# JOBS processes share the files of tests; what is drawn by lot is drawn alike in each of them
test: check
	PYTHONHASHSEED=0 $(DEV) -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: check

check: .venv-dev/installed
	$(DEV) -m ruff check .
	$(DEV) -m ruff format --check .
	$(DEV) -m mypy
	$(DEV) -m bandit --quiet --configfile pyproject.toml --severity-level medium --recursive app model_export packaging run_clinic.py

# What is known against the pinned packages; skipped, with the reason, where nobody can be asked
audit: .venv-dev/installed
	$(DEV) packaging/advisories.py

# The catalogs of app/locale: what pages say, extracted from the sources, and compiled (Debian: gettext).
messages: .venv-dev/installed
	cd app && for language in $(LANGUAGES); do ../$(DEV) -m django makemessages --no-location --no-wrap --no-obsolete -l $$language; done
	cd app && ../$(DEV) -m django compilemessages

format: .venv-dev/installed
	$(DEV) -m ruff check --fix .
	$(DEV) -m ruff format .

soak: .venv-dev/installed
	CLINIC_SOAK=$${CLINIC_SOAK:-10} $(DEV) -m pytest -m soak $(ARGS)

bench: .venv-dev/installed
	$(DEV) -m tests.bench.bench $(ARGS)

train: .venv-dev/installed
	@echo "Each stage has --help, shows its progress and can be run alone:"
	@echo "  export CXR_DATA=/path/to/films"
	@for stage in pretrain train tune adapt score combine gate export quantize pack evaluate card merge compare; do echo "  $(DEV) -m model_export $$stage"; done
	@$(DEV) -m model_export --help

bundle: .venv-bundle/installed
	.venv-bundle/bin/python packaging/build.py

bundle-test: .venv-dev/installed
	CXR_BUNDLE=dist $(DEV) -m pytest --numprocesses $(JOBS) tests/test_bundle.py $(ARGS)

bundle-windows: .venv-bundle/installed
	.venv-bundle/bin/python packaging/build.py --windows

bundle-windows-test: .venv-dev/installed
	CXR_WINDOWS_BUNDLE=dist/windows $(DEV) -m pytest tests/test_windows_bundle.py $(ARGS)

.venv/installed: requirements.txt
	$(call environment,.venv,requirements.txt)

.venv-bundle/installed: packaging/requirements.txt
	$(call environment,.venv-bundle,packaging/requirements.txt --require-hashes)

.venv-dev/installed: requirements.txt requirements-train.txt requirements-dev.txt
	$(call environment,.venv-dev,requirements-dev.txt)

clean:
	rm -rf .venv .venv-dev .venv-bundle build dist staticfiles .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
