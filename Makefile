# Thin on purpose: each target is one command. `make run` and `make test` do all the set-up that they need.
.PHONY: run test fuzz fuzz-api test-compiled test-large test-nodes test-audit test-topologies check format compiled bench bench-quick clean

run: .venv/run.stamp
	@.venv/bin/gateway demo

test: .venv/dev.stamp
	@.ci/system-packages
	@.venv/bin/pytest -n auto

# The data plane's tests against the wheel: safe paths keep the checkout from being imported in its place.
test-compiled: .venv-compiled/compiled.stamp
	@.ci/system-packages
	@PYTHONSAFEPATH=1 KEYGATE_EXPECT_COMPILED=1 .venv-compiled/bin/pytest -n auto \
		tests/proxy tests/policies tests/cache tests/recording tests/e2e

# The property tests of the wire, with twenty times as many examples as `make test` tries.
fuzz: .venv/dev.stamp
	@KEYGATE_FUZZ=20 .venv/bin/pytest -n auto --timeout=0 tests/proxy tests/policies tests/cache tests/changes \
		tests/keys tests/services

# The admin API against its own document: 1,000 calls of each operation, where `make test` tries 100.
fuzz-api: .venv/dev.stamp
	@KEYGATE_FUZZ=10 .venv/bin/pytest -n auto --timeout=0 tests/control/api/test_openapi_conformance.py

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

# Redis behind sentinels and as a Cluster, with real processes that fail over.
test-topologies: .venv/dev.stamp
	@.ci/system-packages
	@.venv/bin/pytest -m topologies tests/store

check: .venv/dev.stamp
	@.venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/mypy

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
