"""How far predictions are from gold (hard) and from a teacher's distribution (soft).

Each is a mean over a row's units, then over rows.
"""

from __future__ import annotations

from kd_core.config.data import CLASSIFICATION, MULTI_LABEL, Kind
from kd_core.tasks import kinds
from kd_core.tasks.loss import classification, multi_label
from kd_core.tasks.loss.protocol import Loss

_KINDS: dict[Kind, Loss] = {CLASSIFICATION: classification, MULTI_LABEL: multi_label}


def of(kind: Kind) -> Loss:
    """The losses of a kind of task. Raises ParamsError if there is no such kind."""
    return kinds.aspect("loss", kind, _KINDS)
