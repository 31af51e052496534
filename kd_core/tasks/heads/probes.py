"""Logistic regressions on the features of units, as the first weights of a teacher's new outputs.

`features` [ΣU, H], `targets` as the kind's gold, `inverse` strength of the L2 penalty. Each gives the outputs that it
found weights for, those weights, and biases.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kd_core.runtime.arrays import Floats, Integers

Probe = tuple[Integers, Floats, Floats]


def multinomial(features: Floats, targets: Integers, inverse: float) -> Probe:
    """The classes that occur, and for each of them weights and bias."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=inverse, max_iter=500).fit(features, targets)
    return model.classes_, *_as_softmax(model)


def one_vs_rest(features: Floats, targets: Integers, inverse: float) -> Probe:
    """The labels that some rows have and some have not, and for each of them weights and bias."""
    from sklearn.linear_model import LogisticRegression

    learnt = np.flatnonzero((targets == 0).any(0) & (targets == 1).any(0))
    models = [LogisticRegression(C=inverse, max_iter=500).fit(features, targets[:, i]) for i in learnt]
    weights = np.concatenate([np.zeros((0, features.shape[1])), *(model.coef_ for model in models)])
    return learnt, weights, np.array([model.intercept_[0] for model in models])


def _as_softmax(model: Any) -> tuple[Floats, Floats]:
    """Coefficients with one row a class; scikit-learn keeps a single row for two classes."""
    if len(model.classes_) > 2:
        return model.coef_, model.intercept_
    return np.concatenate([-model.coef_, model.coef_]) / 2, np.concatenate([-model.intercept_, model.intercept_]) / 2
