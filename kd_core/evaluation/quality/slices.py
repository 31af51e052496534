"""Slices: parts of the test rows on which the models are evaluated separately."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from kd_core.evaluation.statistics.comparison import MINIMUM_SLICE_ROWS
from kd_core.rows import Label, labels_of
from kd_core.runtime.arrays import Booleans

LABEL_IN_TEXT, LABEL_NOT_IN_TEXT = "label_in_text", "label_not_in_text"

_WORD = re.compile(r"[^\W_]+")


def label_in_text(texts: Sequence[str], labels: Sequence[Label]) -> Booleans:
    """[N], whether a text gives away its own label, or one of them.

    It does if neighbouring words spell the label, or if it contains all words of the label.

    Case, spaces and punctuation do not count: "API Gateway" spells `apigateway`, "records" does not spell `rds`.
    """
    named = [any(_names(text, each) for each in labels_of(label)) for text, label in zip(texts, labels, strict=True)]
    return np.array(named, dtype=bool)


def _names(text: str, label: str) -> bool:
    words, parts = _WORD.findall(text.lower()), _WORD.findall(label.lower())
    return bool(parts) and (set(parts) <= set(words) or _spelled("".join(parts), words))


def _spelled(name: str, words: list[str]) -> bool:
    for start in range(len(words)):
        end, joined = start, ""
        while end < len(words) and len(joined) < len(name):
            joined += words[end]
            end += 1
        if joined == name:
            return True
    return False


def of_rows(rows: pd.DataFrame) -> dict[str, Booleans]:
    """Slice → [N], which rows; empty unless at least 100 texts name their label and at least 100 do not."""
    texts = rows["text"]
    if "text_pair" in rows.columns:
        texts = texts + "\n" + rows["text_pair"]
    named = label_in_text(texts.tolist(), rows["label"].tolist())
    if min(int(named.sum()), int((~named).sum())) < MINIMUM_SLICE_ROWS:
        return {}
    return {LABEL_IN_TEXT: named, LABEL_NOT_IN_TEXT: ~named}
