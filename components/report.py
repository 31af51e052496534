"""The report: one HTML file with pictures that opens offline, the model card, and the numbers for the terminal."""

from __future__ import annotations

from components.base import Component, Context, run
from kd_core.config.data import TaskParams

COMPONENT = Component(
    stage="report",
    params=("recipe", "data.reference.task"),
    inputs={
        "dataset": "data/checked/reference/dataset.json",
        "details": "evaluation/details",
        "metrics": "evaluation/metrics.json",
        "measured": "measure/metrics.json",
        "finetune": "models/finetune/history.json",
        "pretrain": "models/pretrain/history.json",
        "self_distill": "models/self_distill/history.json",
        "model": "models/student/model.json",
        "teachers": "teachers",
    },
    outputs={"report": "report"},
)


def main(context: Context) -> None:
    """Write report/report.html, report/model_card.md and report/summary.json."""
    from kd_core.evaluation.report import findings, report

    sources = findings.Sources(
        dataset=context.input("dataset"),
        details=context.input("details"),
        metrics=context.input("metrics"),
        measured=context.input("measured"),
        model=context.input("model"),
        teachers=context.input("teachers"),
        histories={stage: context.input(stage) for stage in ("pretrain", "finetune", "self_distill")},
    )
    task = context.section("data.reference.task", TaskParams)
    report.write(findings.read(sources, str(context.value("recipe")), task), context.output("report"))


if __name__ == "__main__":
    run(COMPONENT, main)
