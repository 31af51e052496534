"""The evaluation row by row, and the tables behind the report's pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kd_core.evaluation.quality.quality import Answers
from kd_core.runtime.arrays import Booleans
from kd_core.serving.exits.curve import at
from kd_core.serving.exits.outcomes import Exits, Predictions
from kd_core.tasks import decide, metrics, sections
from kd_core.tasks.units import Units

CURVE_STEPS = 51


def examples(
    rows: pd.DataFrame,
    answers: Answers,
    adaptive: Predictions,
    labels: Sequence[str],
    slices: Mapping[str, Booleans],
) -> pd.DataFrame:
    """One line for each test row: id, group, label, slices (bool), `<model>`, `<model>/counts`, exit_layer, entropy.

    A label may be a list. Counts are a list of K numbers, from which the main metric is computed.
    """
    kind = decide.of(answers.kind)
    columns: dict[str, Any] = {key: rows[key].tolist() for key in ("id", "group", "label")} | dict(slices)
    for model, probabilities in answers.probabilities.items():
        columns[model] = kind.named(kind.decisions(probabilities), labels)
        columns[f"{model}/counts"] = answers.counts(model).tolist()
    columns |= {"exit_layer": adaptive.exit_layer, "entropy": adaptive.entropy}
    return pd.DataFrame(columns)


def curve(exits: Exits, targets: Units, thresholds: Sequence[float]) -> list[dict[str, float]]:
    """Main metric and mean number of layers over ascending thresholds from 0 to 1 that include the given ones."""
    grid = {*(round(float(value), 4) for value in np.linspace(0, 1, CURVE_STEPS)), *thresholds}
    metric = decide.of(exits.kind).MAIN_METRIC
    return [at(exits, targets, threshold).as_dict(metric) for threshold in sorted(grid)]


def reliability(answers: Answers, models: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Model → for each bin of confidence: rows (or decisions, if a row has several), confidence, accuracy."""
    bins = metrics.of(answers.kind).reliability_bins
    return {
        model: {key: values.tolist() for key, values in bins(answers.probabilities[model], answers.targets).items()}
        for model in models
    }


def confusion(answers: Answers, model: str, labels: Sequence[str]) -> dict[str, Any]:
    """The classes on which `model` is worst, and its most frequent mistakes."""
    found = sections.of(answers.kind).confusion(answers.probabilities[model], answers.targets, labels)
    return {"model": model, **found}
