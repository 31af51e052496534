"""Where to find a test of the code.

A file called `test_<room>_…` belongs to that room of kd_core, `distill` with its training loop; `multi_label` goes
through all, `benchmarks` is that package. What kd_ops does has a folder each: `bridge` (stages, cache, how they end),
`cli` (the command line), `registry` (versions, gate, promotion, tracking), `resolve` (params, recipes, ledgers).
Fixtures that files share stand in the `conftest.py` beside them; modules that are not called `test_…` make tiny models,
rows and runs.
"""
