"""From hidden states to logits, and what logits stand for: decoders, branches, the combined answer; needs torch."""

from __future__ import annotations

from kd_core.config.data import CLASSIFICATION, MULTI_LABEL, Kind
from kd_core.tasks import kinds
from kd_core.tasks.heads import classification, multi_label
from kd_core.tasks.heads.protocol import Heads

_KINDS: dict[Kind, Heads] = {CLASSIFICATION: classification, MULTI_LABEL: multi_label}


def of(kind: Kind) -> Heads:
    """The heads of a kind of task. Raises ParamsError if there is no such kind."""
    return kinds.aspect("heads", kind, _KINDS)


def kind_of_problem(problem_type: str | None) -> Kind | None:
    """The kind that Hugging Face's configs call so (`PROBLEM_TYPE`); None for a name that no kind has."""
    return next((kind for kind, each in _KINDS.items() if problem_type == each.PROBLEM_TYPE), None)
