"""Quality on the test split: every teacher, the student in full, at each exit and with early exits, the baselines."""

from __future__ import annotations

import json

from components.base import Component, Context, run
from kd_core.config.data import TaskParams
from kd_core.config.evaluation import EvaluateParams

COMPONENT = Component(
    stage="evaluate",
    params=("evaluate", "data.reference.task"),
    inputs={
        "alone": "models/alone",
        "frozen": "models/frozen",
        "dataset": "data/checked/reference/dataset.json",
        "student": "models/student",
        "tfidf": "models/tfidf",
        "teachers": "teachers",
        "test": "data/checked/reference/test.parquet",
    },
    outputs={"details": "evaluation/details", "metrics": "evaluation/metrics.json"},
)


def main(context: Context) -> None:
    """Write evaluation/metrics.json and evaluation/details/."""
    from kd_core.evaluation.quality.evaluate import Models, evaluate

    models = Models(
        student=context.input("student"),
        alone=context.input("alone"),
        frozen=context.input("frozen"),
        tfidf=context.input("tfidf"),
        teachers=context.input("teachers"),
    )
    found = evaluate(
        models,
        context.input("test"),
        context.section("data.reference.task", TaskParams),
        context.section("evaluate", EvaluateParams),
        context.progress,
        json.loads(context.input("dataset").read_text(encoding="utf-8")).get("label_names"),
    )
    found.write(context.output("metrics"), context.output("details"))


if __name__ == "__main__":
    run(COMPONENT, main)
