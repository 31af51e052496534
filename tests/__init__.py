"""Where to find a test: `kd_core/` and `kd_ops/` have a folder for each room of that package, of the same name.

`components/` runs stages through their entry points, `dags/` what Airflow runs, `e2e/` whole pipelines, `model/` the
behaviour of a trained student. `helpers/` makes tiny models, rows, runs and projects; `conftest.py` holds fixtures.
"""
