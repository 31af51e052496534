"""Multi-label: TF-IDF and one logistic regression a label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kd_core.config.data import TaskParams
from kd_core.rows import Label, labels_of
from kd_core.runtime.arrays import Floats
from kd_core.tasks.baseline import tfidf
from kd_core.tasks.baseline.tfidf import MISSING_CLASS, regression
from kd_core.tasks.units import Units

if TYPE_CHECKING:
    import pandas as pd


def fit(rows: pd.DataFrame, task: TaskParams, folder: Path) -> None:
    """Fit on labelled rows and write the model to `folder`. Raises InvalidDataError with fewer than two label sets."""
    tfidf.fit(rows, task, by_label).save(folder)


def answer(folder: Path, rows: pd.DataFrame, task: TaskParams) -> Units:
    """Probabilities [N, C] of the model in `folder`, in the order of the labels."""
    from scipy.special import expit

    return Units.one_a_row(expit(tfidf.load(folder).logits(rows)))


def by_label(features: Any, labels: Sequence[Label], classes: Sequence[str]) -> tuple[Floats, Floats]:
    """Coefficients [C, F] and intercepts [C] in the order of `classes`, each for a sigmoid of its own."""
    sets = [set(labels_of(row)) for row in labels]
    coefficients, intercepts = np.zeros((len(classes), features.shape[1])), np.zeros(len(classes))
    for position, label in enumerate(classes):
        applies = np.array([label in row for row in sets])
        if applies.all() or not applies.any():
            intercepts[position] = -MISSING_CLASS if applies.all() else MISSING_CLASS
            continue
        model = regression().fit(features, applies)
        coefficients[position], intercepts[position] = model.coef_[0], model.intercept_[0]
    return coefficients, intercepts
