# Thin on purpose: each target is one command. `make run` and `make test` do all the set-up that they need.
.PHONY: run test check format bench bench-quick clean

run: .venv/run.stamp
	@.venv/bin/gateway demo

test: .venv/dev.stamp
	@.ci/system-packages
	@.venv/bin/pytest -n auto

check: .venv/dev.stamp
	@.venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/mypy

format: .venv/dev.stamp
	@.venv/bin/ruff check --fix && .venv/bin/ruff format

bench: .venv/bench.stamp
	@.venv/bin/python -m benchmarks

bench-quick: .venv/bench.stamp
	@.venv/bin/python -m benchmarks --quick

clean:
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist

# Made anew whenever pyproject.toml is younger than what was installed from it.
.venv/%.stamp: pyproject.toml
	@.ci/environment $*
