"""Checks one role's raw data, sets bad rows aside, and stops the run if there are too many of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from components.base import Component, Context, run
from kd_core.config.data import DataParams, Role
from kd_core.config.names import SPLITS
from kd_core.data.checks.data_docs import write_data_docs
from kd_core.data.checks.validation import EVALUATION, Verdict, validate
from kd_core.data.dataset import read_splits, write_splits
from kd_core.runtime.errors import InvalidDataError
from kd_core.runtime.files import write_json

COMPONENT = Component(
    stage="validate",
    items=("role",),
    params=("data.{role}",),
    inputs={"raw": "data/raw/{role}", "reference": "data/raw/reference"},
    outputs={
        **{split: f"data/checked/{{role}}/{split}.parquet" for split in SPLITS},
        "dataset": "data/checked/{role}/dataset.json",
        "validation": "validation/{role}",
    },
)


def main(context: Context) -> None:
    """Write the checked splits, dataset.json, the data docs and the rejected rows. Raises InvalidDataError."""
    role: Role = context.items["role"]  # type: ignore[assignment]
    params = context.section(f"data.{role}", DataParams)
    context.progress.update("check", 0, 2, "steps")
    splits, record = read_splits(context.input("raw"))
    verdict = validate(splits, record, params, role, _protected(context, role))
    context.progress.update("check", 1, 2, "steps", rows=verdict.summary["rows"])
    folder = context.output("validation")
    _write_findings(folder, verdict, role)
    if verdict.problems:
        raise InvalidDataError("\n".join([*verdict.problems, f"all rows set aside: {_preserve(context, folder)}"]))
    write_splits(context.output("dataset").parent, verdict.kept, {**record, "validation": dict(verdict.summary)})
    context.progress.update("check", 2, 2, "steps", rows=verdict.summary["rows"])


def _protected(context: Context, role: Role) -> pd.DataFrame | None:
    """The evaluation rows of the reference data, which no pre-training text may resemble."""
    if role == "reference":
        return None
    splits, _ = read_splits(context.input("reference"))
    return pd.concat([splits[name] for name in EVALUATION], ignore_index=True)


def _write_findings(folder: Path, verdict: Verdict, role: Role) -> None:
    verdict.rejected.to_parquet(folder / "rejected.parquet", index=False)
    checks = [
        {"reason": c.reason, "expectation": c.expectation, "column": c.column, "met": c.success, "rows": len(c.rows)}
        for suite in verdict.suites
        for c in suite.checks
    ]
    write_json(folder / "result.json", {**verdict.summary, "checks": checks, "problems": list(verdict.problems)})
    write_data_docs(folder, verdict.suites, f"Validation of the {role} data", verdict.summary)


def _preserve(context: Context, folder: Path) -> str:
    """Copy the findings to where they outlive a failed stage, whose outputs are discarded; returns the place."""
    if context.state is None:
        return str(folder / "rejected.parquet")
    for path in sorted(folder.iterdir()):
        context.state.write(path.name, path.read_bytes())
    return f"{context.state.url}/rejected.parquet (data docs beside it: index.html)"


if __name__ == "__main__":
    run(COMPONENT, main)
