"""Multi-label: each label of a row is one of the set."""

from __future__ import annotations

from typing import Any

import pandas as pd

from kd_core.config.data import TaskParams
from kd_core.rows import label_sets

UNKNOWN_LABELS = "unknown_labels"
"""Column that is added for the check: a row's labels outside the set, as text; null where there are none."""


def known_labels(frame: pd.DataFrame, task: TaskParams, condition: Any) -> tuple[pd.DataFrame, Any]:
    """The frame with UNKNOWN_LABELS, and the expectation that there are none on the rows that meet `condition`."""
    from great_expectations import expectations

    found = expectations.ExpectColumnValuesToBeNull(column=UNKNOWN_LABELS, row_condition=condition)
    return frame.assign(**{UNKNOWN_LABELS: _unknown_labels(frame, task)}), found


def _unknown_labels(frame: pd.DataFrame, task: TaskParams) -> pd.Series:
    unknown = [
        ", ".join(label for label in row or () if label not in task.labels) for row in label_sets(frame["label"])
    ]
    return pd.Series([text or None for text in unknown], dtype=object, index=frame.index)
