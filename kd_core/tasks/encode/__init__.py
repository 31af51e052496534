"""From rows to units: how many a row has, what heads must know of each, and gold; no torch, for serving asks it too."""

from __future__ import annotations

from kd_core.config.data import CLASSIFICATION, MULTI_LABEL, Kind
from kd_core.tasks import kinds
from kd_core.tasks.encode import classification, multi_label
from kd_core.tasks.protocol import Encode

_KINDS: dict[Kind, Encode] = {CLASSIFICATION: classification, MULTI_LABEL: multi_label}


def of(kind: Kind) -> Encode:
    """How rows of a kind of task are read. Raises ParamsError if there is no such kind."""
    return kinds.aspect("encode", kind, _KINDS)
