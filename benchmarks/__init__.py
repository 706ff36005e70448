"""The comparison of this gateway with other proxies doing the same work, side by side in one run.

Start it with `python -m benchmarks`; `benchmarks/README.md` says what is measured and how.
"""
