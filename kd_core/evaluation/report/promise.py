"""What the exits were allowed, what calibration proved, and what the test rows say of it, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def promise(model: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """:param model: model.json; :param metrics: metrics.json of the evaluation, with the chosen thresholds."""
    dial, wish = model["dial"], model["max_disagreement"]
    rows, confidence = dial["rows"], dial["confidence"]
    if not wish:
        return "Exits are off: no disagreement with the full model was allowed."
    if not any(metrics["thresholds"]):
        least = 1 - (1 - confidence) ** (1 / rows)
        return (
            f"Exits are off: {rows:,} calibration texts do not prove that an early answer differs from the full "
            f"model's for at most {wish:.2%} of the texts at {confidence:.0%} confidence. So many prove "
            f"{least:.2%} at best, where no answer differs."
        )
    point = next(each for each in dial["points"][::-1] if each["thresholds"] == metrics["thresholds"])
    return (
        f"Exits may answer {wish:.2%} of the texts otherwise than the full model. On {rows:,} calibration texts, one a "
        f"near-duplicate group, {point['disagreements']} answers differ: at most {point['bound']:.2%} at "
        f"{confidence:.0%} confidence. Of the test rows {metrics['disagreement']:.2%} differ."
    )


def named_thresholds(thresholds: list[float]) -> str:
    """`0.12, 0.3`, one an early exit; 0 where there is none."""
    return ", ".join(f"{value:.3g}" for value in thresholds) or "0"
