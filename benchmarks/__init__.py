"""Measurements that docs/benchmarks.md reports; each runs alone: `python -m benchmarks.NAME --help`."""
