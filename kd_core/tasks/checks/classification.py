"""Classification: a label is one of the set."""

from __future__ import annotations

from typing import Any

import pandas as pd

from kd_core.config.data import TaskParams


def known_labels(frame: pd.DataFrame, task: TaskParams, condition: Any) -> tuple[pd.DataFrame, Any]:
    """The frame, and the expectation that labels are of the set on the rows that meet `condition`."""
    from great_expectations import expectations

    found = expectations.ExpectColumnValuesToBeInSet(
        column="label", value_set=list(task.labels), row_condition=condition
    )
    return frame, found
