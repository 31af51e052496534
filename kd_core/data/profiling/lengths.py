"""How long texts are in tokens, and how many of them the student should read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from kd_core.data.splits.words import stable_order
from kd_core.rows import nulls_as_none

CountTokens = Callable[[Sequence[str], Sequence[str] | None], Sequence[int]]
"""N texts, and N second ones of pairs → tokens of each, special ones included."""

_COUNTED = 2000
"""Texts, drawn by a hash."""
_CHARACTERS = 20_000
"""Of a text that is counted: longer ones are set aside by validation."""
_STEP = 8
_SHORTEST = 16


def lengths(rows: pd.DataFrame, count: CountTokens, most: int | None) -> tuple[int, Mapping[str, int]]:
    """A proposal for `max_length`: what 99 % of the texts have, and the counts that it follows from.

    `rows`: id, text, text_pair?, none without a text. `most`: positions of the base.
    """
    drawn = rows.iloc[sorted(stable_order(0, rows["id"].tolist())[:_COUNTED])]
    texts = [(text or "")[:_CHARACTERS] for text in nulls_as_none(drawn["text"])]
    pairs = None
    if "text_pair" in drawn.columns:
        pairs = [(text or "")[:_CHARACTERS] for text in nulls_as_none(drawn["text_pair"])]
    tokens = np.asarray(count(texts, pairs))
    middle, many, nearly_all = (int(np.ceil(np.percentile(tokens, share))) for share in (50, 95, 99))
    proposed = max(_SHORTEST, -(-nearly_all // _STEP) * _STEP)
    proposed = min(proposed, most) if most is not None else proposed
    return proposed, {
        "median": middle,
        "95 %": many,
        "99 %": nearly_all,
        "longest": int(tokens.max()),
        "cut": int((tokens > proposed).sum()),
        "counted": len(tokens),
    }
