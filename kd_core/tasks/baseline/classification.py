"""Classification: TF-IDF and one logistic regression over all classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kd_core.config.data import TaskParams
from kd_core.rows import Label
from kd_core.runtime.arrays import Floats
from kd_core.tasks.baseline import tfidf
from kd_core.tasks.baseline.tfidf import MISSING_CLASS, regression
from kd_core.tasks.units import Units

if TYPE_CHECKING:
    import pandas as pd


def fit(rows: pd.DataFrame, task: TaskParams, folder: Path) -> None:
    """Fit on labelled rows and write the model to `folder`. Raises InvalidDataError with fewer than two classes."""
    tfidf.fit(rows, task, by_class).save(folder)


def answer(folder: Path, rows: pd.DataFrame, task: TaskParams) -> Units:
    """Probabilities [N, C] of the model in `folder`, in the order of the labels."""
    from scipy.special import softmax

    return Units.one_a_row(softmax(tfidf.load(folder).logits(rows), axis=1))


def by_class(features: Any, labels: Sequence[Label], classes: Sequence[str]) -> tuple[Floats, Floats]:
    """Coefficients [C, F] and intercepts [C] in the order of `classes`, for a softmax."""
    model = regression().fit(features, list(labels))
    found, coefficients, intercepts = list(model.classes_), model.coef_, model.intercept_
    if len(found) == 2:  # one row of coefficients, for the second class: sigmoid(z) = softmax(0, z)
        coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
        intercepts = np.concatenate([[0.0], intercepts])
    ordered = np.zeros((len(classes), coefficients.shape[1]))
    offsets = np.full(len(classes), MISSING_CLASS)
    for position, label in enumerate(classes):
        if label in found:
            ordered[position] = coefficients[found.index(label)]
            offsets[position] = intercepts[found.index(label)]
    return ordered, offsets
