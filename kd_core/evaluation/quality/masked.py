"""The test rows once more, without the names of their labels: what a model knows where no text gives the answer away.

A source that knows how its labels are called in texts records it in dataset.json (`label_names`); others have no such
comparison.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kd_core.config.evaluation import EvaluateParams
from kd_core.evaluation.quality.quality import Answers
from kd_core.evaluation.statistics.resampling import resample
from kd_core.rows import labels_of
from kd_core.runtime.arrays import Booleans, Floats
from kd_core.tasks.units import Units

STAND_IN = "it"
"""Takes the place of a name: a word that says nothing, whatever the texts are about."""

Labels = tuple[str, ...]
"""All labels of a row."""

Names = Mapping[str, Sequence[str]]
"""Label → the names by which a text gives it away, words apart."""


def mask(rows: pd.DataFrame, names: Names) -> tuple[pd.DataFrame, Booleans]:
    """The rows whose texts hold a name of a label of theirs, these replaced; and which of `rows` they are, [N]."""
    columns = [column for column in ("text", "text_pair") if column in rows.columns]
    labels = [labels_of(label) for label in rows["label"]]
    patterns = {each: _pattern([name for label in each for name in names.get(label, ())]) for each in set(labels)}
    copy = rows.assign(**{column: _masked(rows[column], labels, patterns) for column in columns})
    changed = (copy[columns] != rows[columns]).any(axis=1).to_numpy(dtype=bool)
    return copy[changed].reset_index(drop=True), changed


def _masked(texts: pd.Series, labels: Sequence[Labels], patterns: Mapping[Labels, re.Pattern[str] | None]) -> list[str]:
    found = ((text, patterns[each]) for text, each in zip(texts, labels, strict=True))
    return [text if pattern is None else pattern.sub(STAND_IN, text) for text, pattern in found]


def _pattern(names: Sequence[str]) -> re.Pattern[str] | None:
    """Any of the names as whole words, the longest first; case, and what stands between its words, do not count."""
    if not names:
        return None
    spelled = sorted({r"[\W_]*".join(map(re.escape, name.split())) for name in names}, key=lambda s: (-len(s), s))
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(spelled)})(?![^\W_])", re.IGNORECASE)


def compare(
    answers: Answers,
    changed: Booleans,
    masked: Mapping[str, Units],
    params: EvaluateParams,
) -> dict[str, Any]:
    """What masking costs each model.

    :param answers: to the N test rows as they are
    :param changed: [N], which of them are masked
    :param masked: model → their units, its answers to their copies
    :returns: rows, changed (rows), models: model → main metric and its interval over all rows, the changed ones
        masked; changed and changed_masked, the metric on these alone, before and after
    """
    after = Answers(answers.targets.take(changed), answers.groups[changed], masked, answers.kind)
    before = {name: answers.counts(name) for name in masked}
    copies = {name: _with(counts, changed, after.counts(name)) for name, counts in before.items()}
    found = resample(copies, answers.groups, answers.metric, params.resamples, params.seed)
    models, metric = {}, answers.main_metric
    for name in masked:
        interval = found.metric(name).interval(params.confidence)
        models[name] = {
            metric: interval.value,
            f"{metric}_interval": [interval.low, interval.high],
            "changed": float(answers.metric(before[name][changed].sum(0))),
            "changed_masked": float(answers.metric(copies[name][changed].sum(0))),
        }
    return {"rows": len(changed), "changed": int(changed.sum()), "models": models}


def _with(counts: Floats, changed: Booleans, after: Floats) -> Floats:
    copy = counts.copy()
    copy[changed] = after
    return copy
