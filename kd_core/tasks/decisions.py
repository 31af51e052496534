"""What is answered, given probabilities, and how right each answer is; numpy only: a judge needs no model.

The mean of the rows' scores is the task's main metric: the one that early stopping, the exit threshold, intervals,
conclusions and the gate go by (docs/methods.md, Notation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd_core.config.data import MULTI_LABEL, Kind

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

APPLIES = 0.5
"""Multi-label: a label is given where its probability is above this."""

MAIN_METRIC: Mapping[Kind, str] = {"classification": "accuracy", MULTI_LABEL: "example_f1"}
"""Its name in metrics; example-based F1 is the mean over rows of the F1 between given and true labels."""


def decisions(probabilities: Floats, kind: Kind) -> Integers:
    """Index of the most probable class [N]; multi-label [N, C]: 1 for each label that is given."""
    found = probabilities > APPLIES if kind == MULTI_LABEL else probabilities.argmax(-1)
    return np.asarray(found, dtype=np.int64)


def named(answers: Integers, labels: Sequence[str], kind: Kind) -> NDArray[np.object_]:
    """Decisions as labels, [N]: the class's name; multi-label: a tuple of names, sorted, as rows have them."""
    names = np.array(labels, dtype=object)
    if kind != MULTI_LABEL:
        return np.asarray(names[answers])
    found = np.empty(len(answers), dtype=object)
    found[:] = [tuple(sorted(names[row == 1])) for row in answers]
    return found


def row_scores(probabilities: Floats, targets: Integers, kind: Kind) -> NDArray[np.float64]:
    """How right each row is answered, [N] in [0, 1]: probabilities [N, C], targets as `decisions` gives them.

    1 or 0 for a right or wrong class. Multi-label: F1 of the row's labels, 2 |given ∩ true| / (|given| + |true|); 1
    where no label applies and none is given.
    """
    answers = decisions(probabilities, kind)
    if kind != MULTI_LABEL:
        return np.asarray(answers == targets, dtype=np.float64)
    sizes = answers.sum(1) + targets.sum(1)
    both = (answers * targets).sum(1)
    scores: NDArray[np.float64] = np.where(sizes > 0, 2 * both / np.maximum(sizes, 1), 1.0)
    return scores


def row_counts(probabilities: Floats, targets: Integers, kind: Kind) -> NDArray[np.float64]:
    """[N, 2] what the main metric is made of: the score of each row, and one row."""
    scores = row_scores(probabilities, targets, kind)
    return np.stack([scores, np.ones_like(scores)], axis=1)


def mean_score(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The main metric: sums of `row_counts` [..., 2] → [...]."""
    found: NDArray[np.float64] = sums[..., 0] / sums[..., 1]
    return found
