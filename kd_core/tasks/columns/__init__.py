"""How labels stand in a data set's columns."""

from __future__ import annotations

from kd_core.config.data import CLASSIFICATION, MULTI_LABEL, Kind
from kd_core.tasks import kinds
from kd_core.tasks.columns import classification, multi_label
from kd_core.tasks.protocol import Columns

_KINDS: dict[Kind, Columns] = {CLASSIFICATION: classification, MULTI_LABEL: multi_label}


def of(kind: Kind) -> Columns:
    """The columns of a kind of task. Raises ParamsError if there is no such kind."""
    return kinds.aspect("columns", kind, _KINDS)
