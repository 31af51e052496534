"""What is answered, how sure that is, and what the main metric counts; numpy only, for serving asks it too.

`counts` are K numbers a row that may be added up, `metric` turns sums of them into the main metric: right / 1, F1 / 1,
or the parts of a ratio. The metric of a set of rows is `metric(counts.sum(0))`, so intervals, differences, early
stopping and the gate need no other (docs/methods.md, Notation).
"""

from __future__ import annotations

from kd_core.config.data import CLASSIFICATION, MULTI_LABEL, Kind
from kd_core.tasks import kinds
from kd_core.tasks.decide import classification, multi_label
from kd_core.tasks.protocol import Decide

_KINDS: dict[Kind, Decide] = {CLASSIFICATION: classification, MULTI_LABEL: multi_label}


def of(kind: Kind) -> Decide:
    """The decisions of a kind of task. Raises ParamsError if there is no such kind."""
    return kinds.aspect("decide", kind, _KINDS)
