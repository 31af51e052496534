"""What the report and the model card say and show of a kind of task; numpy only."""

from __future__ import annotations

from kd_core.config.data import CLASSIFICATION, MULTI_LABEL, Kind
from kd_core.tasks import kinds
from kd_core.tasks.protocol import Sections
from kd_core.tasks.sections import classification, multi_label

_KINDS: dict[Kind, Sections] = {CLASSIFICATION: classification, MULTI_LABEL: multi_label}


def of(kind: Kind) -> Sections:
    """The sections of a kind of task. Raises ParamsError if there is no such kind."""
    return kinds.aspect("sections", kind, _KINDS)
