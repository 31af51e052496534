"""Evaluates the test rows again without the names of their labels, so that no text gives its answer away.

A source that knows the names of its labels in texts records them in dataset.json (`label_names`); without them there
is no such comparison.
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
"""Replaces a name: a word without meaning in texts of any subject."""

Labels = tuple[str, ...]
"""All labels of a row."""

Names = Mapping[str, Sequence[str]]
"""Label → the names by which a text gives it away, with their words separated by spaces."""


def mask(rows: pd.DataFrame, names: Names) -> tuple[pd.DataFrame, Booleans]:
    """The rows whose texts contain a name of one of their labels, with the names replaced; and [N], which rows."""
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
    """A pattern for any name as whole words, the longest first; it ignores case and what separates the words."""
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
    """The effect of masking on each model.

    :param answers: those to the N unmasked test rows
    :param changed: [N], which rows are masked
    :param masked: model → its answers to the masked copies of these rows
    :returns: rows, changed (rows), models: model → main metric and its interval over all rows with the changed ones
        masked; changed and changed_masked, the metric on the changed rows alone, before and after masking
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
