"""The servable student: its graphs, and the exit threshold that a stated loss of accuracy allows."""

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
    """Write models/student: graphs, weights, and inference.json with the threshold chosen on the validation split."""
    from kd_core.inference.export import export

    choice = export(
        context.input("model"),
        context.input("valid"),
        context.output("student"),
        context.section("data.reference.task", TaskParams),
        context.section("export", ExportParams),
        context.input("calibration"),
        json.loads(context.input("dataset").read_text(encoding="utf-8"))["source"].get("columns"),
    )
    point = choice.chosen
    context.progress.update(
        "choose threshold",
        choice.rows,
        choice.rows,
        threshold=point.threshold,
        accuracy=point.accuracy,
        mean_layers=point.mean_layers,
    )


if __name__ == "__main__":
    run(COMPONENT, main)
