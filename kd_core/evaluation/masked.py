"""The test rows once more, without the names of their labels: what a model knows where no text gives the answer away.

A source that knows how its labels are called in texts records it in dataset.json (`label_names`); others have no such
comparison.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kd_core.config.evaluation import EvaluateParams
from kd_core.evaluation.intervals import mean_interval
from kd_core.evaluation.quality import Answers, Probabilities

STAND_IN = "it"
"""Takes the place of a name: a word that says nothing, whatever the texts are about."""

Names = Mapping[str, Sequence[str]]
"""Label → the names by which a text gives it away, words apart."""


def mask(rows: pd.DataFrame, names: Names) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
    """The rows whose texts hold a name of their label, these replaced; and which of `rows` they are, [N]."""
    patterns = {label: _pattern(known) for label, known in names.items() if known}
    columns = [column for column in ("text", "text_pair") if column in rows.columns]
    copy = rows.assign(**{column: _masked(rows[column], rows["label"], patterns) for column in columns})
    changed = (copy[columns] != rows[columns]).any(axis=1).to_numpy(dtype=bool)
    return copy[changed].reset_index(drop=True), changed


def _masked(texts: pd.Series, labels: pd.Series, patterns: Mapping[str, re.Pattern[str]]) -> list[str]:
    return [
        patterns[label].sub(STAND_IN, text) if label in patterns else text
        for text, label in zip(texts, labels, strict=True)
    ]


def _pattern(names: Sequence[str]) -> re.Pattern[str]:
    """Any of the names as whole words, the longest first; case, and what stands between its words, do not count."""
    spelled = sorted({r"[\W_]*".join(map(re.escape, name.split())) for name in names}, key=lambda s: (-len(s), s))
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(spelled)})(?![^\W_])", re.IGNORECASE)


def compare(
    answers: Answers,
    changed: npt.NDArray[np.bool_],
    masked: Mapping[str, Probabilities],
    params: EvaluateParams,
) -> dict[str, Any]:
    """What masking costs each model.

    :param answers: to the N test rows as they are
    :param changed: [N], which of them are masked
    :param masked: model → [changed rows, C], its answers to their copies
    :returns: rows, changed (rows), models: model → accuracy and its interval over all rows, the changed ones masked;
        changed and changed_masked, the accuracies on these alone, before and after
    """
    after = Answers(answers.targets[changed], answers.groups[changed], masked)
    models = {}
    for name in masked:
        correct = answers.correct(name).copy()
        before = float(correct[changed].mean())
        correct[changed] = after.correct(name)
        found = mean_interval(correct, answers.groups, params.confidence, params.resamples, params.seed)
        models[name] = {
            "accuracy": found.value,
            "accuracy_interval": [found.low, found.high],
            "changed": before,
            "changed_masked": float(correct[changed].mean()),
        }
    return {"rows": len(changed), "changed": int(changed.sum()), "models": models}
