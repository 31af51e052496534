"""Rows that may have several labels or none, for tests of multi-label tasks; the topics in a text are its labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kd_core.config.data import MULTI_LABEL, TaskParams
from tests.helpers.tiny import FILLER, TOPICS

LABELS = ("red", "green", "blue", "grey")
SHARES = (0.5, 0.4, 0.25, 0.15)
"""How often each label applies; independently, so that a third of the rows has two or more and a sixth none."""
TASK = TaskParams(kind=MULTI_LABEL, labels=LABELS, max_length=24)
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]


def multi_label_rows(n: int, labels: Sequence[str] | None = LABELS, seed: int = 0, noise: int = 0) -> pd.DataFrame:
    """`n` rows (id, group, text, label; null where `labels` is None); `noise` random words keep texts apart."""
    random = np.random.default_rng(seed)
    rows = []
    for index in range(n):
        applies = random.random(len(LABELS)) < SHARES
        topics = [topic for topic, yes in zip(TOPICS, applies, strict=False) if yes]
        strange = ["".join(random.choice(LETTERS, size=4)) for _ in range(noise)]
        words = [*random.choice(FILLER, size=4), *strange, *topics]
        random.shuffle(words)
        label = tuple(sorted(name for name, yes in zip(labels or LABELS, applies, strict=True) if yes))
        row = {"id": f"row{seed}-{index:06d}", "group": f"group{index:06d}", "text": " ".join(words)}
        rows.append({**row, "label": label if labels else None})
    frame = pd.DataFrame(rows, columns=["id", "group", "text", "label"])
    return frame.astype({"label": object})
