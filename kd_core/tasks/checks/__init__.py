"""What labels must be, as Great Expectations checks them."""

from __future__ import annotations

from kd_core.config.data import CLASSIFICATION, MULTI_LABEL, Kind
from kd_core.tasks import kinds
from kd_core.tasks.checks import classification, multi_label
from kd_core.tasks.protocol import Checks

_KINDS: dict[Kind, Checks] = {CLASSIFICATION: classification, MULTI_LABEL: multi_label}


def of(kind: Kind) -> Checks:
    """The checks of a kind of task. Raises ParamsError if there is no such kind."""
    return kinds.aspect("checks", kind, _KINDS)
