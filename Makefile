# Kasbah's targets; `make` alone lists them. Needs Python 3.11 or later, git and make; everything else comes from the
# lock files, into .venv. PYTHON=/path/to/python3 chooses the interpreter, ARGS="..." is handed to pytest.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# What a machine may have set for other projects must not move, replace or reshape what is installed here. Indexes,
# proxies and certificates stay as they are.
CLEAN_ENV := env -u PYTHONPATH -u PYTHONHOME -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT -u PIP_REQUIREMENT -u PIP_EDITABLE \
	-u PIP_CONSTRAINT -u PIP_BUILD_CONSTRAINT -u PIP_NO_BINARY -u PIP_NO_DEPS -u PIP_DRY_RUN -u PIP_PYTHON \
	-u PIP_REQUIRE_HASHES -u PIP_NO_BUILD_ISOLATION -u PIP_IGNORE_INSTALLED -u PIP_REPORT -u PIP_LOG \
	PIP_USER=0 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
PIP_INSTALL := $(CLEAN_ENV) .venv/bin/python -m pip install --quiet
COMPILE := $(CLEAN_ENV) .venv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" pyproject.toml

# Some machines keep Python from keeping what it compiled: each of the hundreds of processes that tests start would
# compile all of it anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup setup-dev test fuzz soak simulate check lint demo bench lock clean FORCE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: .venv/installed ## make .venv and a working .venv/bin/kasbah, from requirements.lock
	@echo ".venv/bin/kasbah is ready: .venv/bin/kasbah --help"

setup-dev: .venv/installed-dev ## the same, with the tools the tests and checks need

test: .venv/installed-dev ## run every test, real Envoy and real processes included; many wait, so more at a time than cores; WORKERS=1 runs one
	.venv/bin/python -m pytest -n $(or $(WORKERS),3) --dist loadfile --no-loadscope-reorder $(ARGS)

fuzz: .venv/installed-dev ## look for what nobody expects, in the API and in every reader; SECONDS=N for each, TARGETS="bundle gate"
	EXAMPLES=$(or $(EXAMPLES),100) .venv/bin/python -m pytest -q --timeout 3600 tests/fuzz $(ARGS)
	$(PIP_INSTALL) atheris==3.0.0
	for target in $(or $(TARGETS),$$(PYTHONPATH=. .venv/bin/python tests/fuzz/cover.py)); do \
		.venv/bin/python -W ignore tests/fuzz/cover.py $$target $(or $(SECONDS),60) || exit 1; done

soak: .venv/installed-dev ## sleep and wake ten thousand times, and count what is left; CYCLES=N for another number
	CYCLES=$(or $(CYCLES),10000) .venv/bin/python -m pytest -s tests/system/soak.py $(ARGS)

simulate: .venv/installed-dev ## fleets of sites under changing laws, watched by an oracle; SEEDS=N lives of STEPS=N steps each
	STEPS=$(or $(STEPS),1000) SEEDS=$(or $(SEEDS),20) .venv/bin/python -m pytest -n $(or $(WORKERS),2) --timeout 0 \
		tests/simulation/test_lawful_fleet.py tests/simulation/test_fleet_faults.py $(ARGS)

check: lint ## lint, and the tests that need no Envoy, no processes and no root
	.venv/bin/python -m pytest -m "not real and not root" $(ARGS)

lint: .venv/installed-dev ## ruff, mypy and import-linter
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

demo: .venv/installed ## start Kasbah, deploy the examples, call them, then several sites and the law; ONESHOT=1 ends by itself
	.venv/bin/python -m demo $(if $(filter-out 0,$(ONESHOT)),--oneshot)

bench: .venv/installed-dev ## measure beside Envoy by hand, nginx and LiteLLM; QUICK=1 ends within five minutes, ONLY=GROUP
	.venv/bin/python -m bench $(if $(filter-out 0,$(QUICK)),--quick) $(foreach group,$(ONLY),--only $(group))

lock: .venv/installed-dev ## resolve the dependencies again into both lock files; UPGRADE=1 takes newer ones
	$(COMPILE) $(if $(UPGRADE),--upgrade) --group build -o requirements.lock
	$(COMPILE) $(if $(UPGRADE),--upgrade) --group dev -c requirements.lock -o requirements-dev.lock

clean: ## remove .venv and what the tools cache; Kasbah's own data folders are left alone
	rm -rf .venv .fuzz .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
	find kasbah tests demo bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# A virtual environment holds absolute paths: one that was made elsewhere, or by other means, is made again.
ifneq ($(shell cat .venv/made-at 2>/dev/null),$(CURDIR))
.venv/made-at: FORCE
endif
.venv/made-at:
	@PYTHON="$(PYTHON)" $(CLEAN_ENV) sh .ci/venv
	@printf '%s\n' "$(CURDIR)" > $@

.venv/installed: .venv/made-at requirements.lock pyproject.toml
	@echo "Installing Kasbah and what it needs from requirements.lock"
	@$(PIP_INSTALL) --require-hashes -r requirements.lock
	@$(PIP_INSTALL) --no-index --no-deps --no-build-isolation --editable .
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.lock
	@echo "Installing the development tools from requirements-dev.lock"
	@$(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@
