# Thin on purpose: each target is one command. `make run` and `make test` do all the set-up that they need.
.PHONY: run test fuzz fuzz-wire coverage-wire fuzz-api test-compiled test-large test-wire test-nodes test-audit test-faults test-topologies check format compiled bench bench-quick clean

# Where it is set, a fresh checkout is compiled anew by every process: 15 % of each of 150 gateways that the tests start.
unexport PYTHONDONTWRITEBYTECODE

run: .venv/run.stamp
	@.venv/bin/gateway demo

test: .venv/dev.stamp
	@.ci/system-packages
	@.venv/bin/pytest -n auto

# The data plane's tests against the wheel: safe paths keep the checkout from being imported in its place.
test-compiled: .venv-compiled/compiled.stamp
	@.ci/system-packages
	@PYTHONSAFEPATH=1 KEYGATE_EXPECT_COMPILED=1 .venv-compiled/bin/pytest -n auto \
		tests/proxy tests/policies tests/cache tests/recording tests/wire tests/e2e

# The property tests of the wire, with twenty times as many examples as `make test` tries.
fuzz: .venv/dev.stamp
	@KEYGATE_FUZZ=20 .venv/bin/pytest -n auto --timeout=0 tests/proxy tests/policies tests/cache tests/changes \
		tests/keys tests/services

# Both sides of the wire for half an hour, one core each, with new seeds (KEYGATE_FUZZ_SEED repeats a run, FUZZ_MINUTES
# is its length): a million inputs and more per side.
FUZZ_MINUTES ?= 30
fuzz-wire: .venv/dev.stamp
	@export KEYGATE_FUZZ_SECONDS=$$(($(FUZZ_MINUTES) * 60)); fuzz=".venv/bin/pytest -q -s --timeout=0 tests/wire"; \
		$$fuzz/test_fuzz_requests.py & requests=$$!; \
		$$fuzz/test_fuzz_responses.py; responses=$$?; \
		wait $$requests && exit $$responses

# Each case of the wire cut at every byte, where `make test` cuts the longer ones around their lines and at some others.
test-wire: .venv/dev.stamp
	@KEYGATE_LONG=1 .venv/bin/pytest -n auto --timeout=0 tests/wire

# Which branches of the data plane the tests of the wire go through.
coverage-wire: .venv/dev.stamp
	@.venv/bin/coverage run --branch --source=gateway.proxy --data-file=.pytest_cache/coverage \
		-m pytest -q tests/proxy tests/wire
	@.venv/bin/coverage report --data-file=.pytest_cache/coverage --show-missing

# The admin API against its own document: 1,000 calls of each operation, where `make test` tries 50.
fuzz-api: .venv/dev.stamp
	@KEYGATE_FUZZ=20 .venv/bin/pytest -n auto --timeout=0 tests/control/api/test_openapi_conformance.py

test-large: .venv/dev.stamp
	@.ci/system-packages
	@.venv/bin/pytest -m large tests/e2e

# Several nodes on real Redis and PostgreSQL while things break: 200 revocations, 2,000 requests/s, faults of 30 s.
# `make test` has a core of it in tests/e2e/test_nodes_core.py.
test-nodes: .venv/dev.stamp
	@.ci/system-packages
	@KEYGATE_LONG=1 .venv/bin/pytest --timeout=0 -m nodes tests/e2e

# The record of requests while things are killed, full, away and damaged: 100 rounds at 2,000 requests/s, an outage of
# 30 s. `make test` runs the same tests with fewer rounds and less load.
test-audit: .venv/dev.stamp
	@.ci/system-packages
	@KEYGATE_LONG=1 .venv/bin/pytest --timeout=0 -m audit tests/e2e

# Ten minutes of mixed load at 2,000 requests/s on each store, while everything fails at random moments
# (FAULT_MINUTES, FAULT_SEED, FAULT_STORE=sqlite or postgres), on the compiled gateway where `make compiled` was asked
# for. `make test` has each fault once.
faults_on := $(if $(wildcard .venv-compiled/compiled.stamp),.venv-compiled/compiled.stamp,.venv/dev.stamp)
test-faults: $(faults_on)
	@.ci/system-packages
	@KEYGATE_LONG=1 $(if $(findstring compiled,$<),PYTHONSAFEPATH=1 KEYGATE_EXPECT_COMPILED=1) \
		$(<D)/bin/pytest --timeout=0 -m faults tests/e2e

# Redis behind sentinels and as a Cluster, with real processes that fail over.
test-topologies: .venv/dev.stamp
	@.ci/system-packages
	@.venv/bin/pytest -m topologies tests/store

# Advisories are asked for last: without a network that is told, and is no failure (KEYGATE_ADVISORIES=required: it is).
check: .venv/dev.stamp
	@.venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/mypy
	@.venv/bin/python .ci/advisories.py .venv/bin/pip-audit

format: .venv/dev.stamp
	@.venv/bin/ruff check --fix && .venv/bin/ruff format

# A gateway as it ships, in .venv-compiled/bin/gateway.
compiled: .venv-compiled/compiled.stamp

bench: .venv-compiled/bench.stamp
	@.venv-compiled/bin/python -m benchmarks

bench-quick: .venv-compiled/bench.stamp
	@.venv-compiled/bin/python -m benchmarks --quick

clean:
	@rm -rf .venv .venv-compiled .mypy_cache .ruff_cache .pytest_cache .hypothesis dist

# Made anew whenever pyproject.toml is younger than what was installed from it.
.venv/%.stamp: pyproject.toml
	@.ci/environment $*

# And what is compiled, whenever a source is.
.venv-compiled/compiled.stamp: pyproject.toml hatch_build.py $(shell find gateway -name '*.py')
	@.ci/environment compiled

.venv-compiled/bench.stamp: .venv-compiled/compiled.stamp
	@.ci/environment bench
