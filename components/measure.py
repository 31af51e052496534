"""Measures throughput and latency of the teachers and the student, side by side, on the machine that runs the stage."""

from __future__ import annotations

import json

from components.base import Component, Context, run
from kd_core.config.evaluation import MeasureParams
from kd_core.runtime.files import write_json

COMPONENT = Component(
    stage="measure",
    params=("measure", "evaluate.thresholds", "data.reference.task"),
    inputs={
        "machine": "machine.json",
        "student": "models/student",
        "teachers": "teachers",
        "texts": "data/checked/reference/calibration.parquet",
    },
    outputs={"metrics": "measure/metrics.json"},
)


def main(context: Context) -> None:
    """Write measure/metrics.json."""
    from kd_core.evaluation.measurement.measure import measure

    found = measure(
        student=context.input("student"),
        teachers=context.input("teachers"),
        texts=context.input("texts"),
        machine=json.loads(context.input("machine").read_text(encoding="utf-8")),
        params=context.section("measure", MeasureParams),
        progress=context.progress,
        thresholds=context.value("evaluate.thresholds"),
    )
    write_json(context.output("metrics"), found)


if __name__ == "__main__":
    run(COMPONENT, main)
