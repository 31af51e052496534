"""How good predictions are: all metrics of the evaluation, in plain numpy arrays."""

from __future__ import annotations

from kd_core.config.data import CLASSIFICATION, MULTI_LABEL, Kind
from kd_core.tasks import kinds
from kd_core.tasks.metrics import classification, multi_label
from kd_core.tasks.protocol import Metrics

_KINDS: dict[Kind, Metrics] = {CLASSIFICATION: classification, MULTI_LABEL: multi_label}


def of(kind: Kind) -> Metrics:
    """The metrics of a kind of task. Raises ParamsError if there is no such kind."""
    return kinds.aspect("metrics", kind, _KINDS)
