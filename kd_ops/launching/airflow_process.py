"""Airflow's own command line in a process that looks for garbage less often: most of a run without news is imports.

`python -m kd_ops.launching.airflow_process WORDS…` is `python -m airflow WORDS…`.
"""

from __future__ import annotations

import runpy

from kd_ops.base.entry import collect_rarely

if __name__ == "__main__":
    collect_rarely()
    runpy.run_module("airflow", run_name="__main__", alter_sys=True)
