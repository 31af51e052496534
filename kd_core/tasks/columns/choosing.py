"""Which kind of task goes with the labels that a person brings, where nobody has said so."""

from __future__ import annotations

from kd_core.config.data import CLASSIFICATION, MULTI_LABEL, Kind


def kind_for(listed: bool) -> Kind:
    """The kind whose rows have one label each, or several if they are `listed`."""
    return MULTI_LABEL if listed else CLASSIFICATION
