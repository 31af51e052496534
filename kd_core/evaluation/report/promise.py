"""Sentences on the disagreement of early exits: what is allowed, what calibration proved, what the test rows show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def promise(model: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """:param model: model.json; :param metrics: metrics.json of the evaluation, with the chosen thresholds."""
    dial, wish = model["dial"], model["max_disagreement"]
    rows, confidence = dial["rows"], dial["confidence"]
    if not wish:
        return "Exits are off: no disagreement with the full model was allowed."
    if not metrics["thresholds"]:
        return "The student has one exit only, at its end."
    if not any(metrics["thresholds"]):
        least = 1 - (1 - confidence) ** (1 / rows)
        return (
            f"Exits are off: {rows:,} calibration texts do not prove that at most {wish:.2%} of the predictions differ "
            f"from the full model's, at {confidence:.0%} confidence. Even if no prediction differed, this number of "
            f"texts would prove no less than {least:.2%}."
        )
    point = next(each for each in dial["points"][::-1] if each["thresholds"] == metrics["thresholds"])
    return (
        f"With early exits at most {wish:.2%} of the predictions may differ from the full model's. On {rows:,} "
        f"calibration texts, one for each near-duplicate group, {point['disagreements']} predictions differ: at most "
        f"{point['bound']:.2%} at {confidence:.0%} confidence. On the test rows {metrics['disagreement']:.2%} differ."
    )


def named_thresholds(thresholds: list[float]) -> str:
    """`0.12, 0.3`: one threshold for each early exit, or 0 where there is no exit."""
    return ", ".join(f"{value:.3g}" for value in thresholds) or "0"
