"""What a student must beat without any transformer."""

from __future__ import annotations

from kd_core.config.data import CLASSIFICATION, MULTI_LABEL, Kind
from kd_core.tasks import kinds
from kd_core.tasks.baseline import classification, multi_label
from kd_core.tasks.protocol import Baseline

_KINDS: dict[Kind, Baseline] = {CLASSIFICATION: classification, MULTI_LABEL: multi_label}


def of(kind: Kind) -> Baseline:
    """The baseline of a kind of task. Raises ParamsError if there is no such kind."""
    return kinds.aspect("baseline", kind, _KINDS)
