"""Writes the servable student: its graphs, with exits calibrated for a stated disagreement with the full model."""

from __future__ import annotations

import json

from components.base import Component, Context, run
from kd_core.config.data import TaskParams
from kd_core.config.evaluation import ExportParams

COMPONENT = Component(
    stage="export",
    params=("export", "data.reference.task"),
    inputs={
        "calibration": "data/checked/reference/calibration.parquet",
        "dataset": "data/checked/reference/dataset.json",
        "model": "models/self_distill",
        "valid": "data/checked/reference/valid.parquet",
    },
    outputs={"student": "models/student"},
)


def main(context: Context) -> None:
    """Calibrate the exits on the calibration split and write models/student: graphs, weights and model.json."""
    from kd_core.export.stage import export

    params = context.section("export", ExportParams)
    dial = export(
        context.input("model"),
        context.input("calibration"),
        context.output("student"),
        context.section("data.reference.task", TaskParams),
        params,
        json.loads(context.input("dataset").read_text(encoding="utf-8"))["source"].get("columns"),
        context.input("valid"),
    )
    point = dial.at(params.max_disagreement)
    context.progress.update(
        "calibrate exits",
        dial.rows,
        dial.rows,
        disagreements=point.disagreements,
        bound=point.bound,
        mean_layers=dial.mean_layers(point),
    )


if __name__ == "__main__":
    run(COMPONENT, main)
