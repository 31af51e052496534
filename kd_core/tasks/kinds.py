"""The kinds of tasks there are, and how a further one is made known.

Each aspect is a folder whose `of(kind)` gives the file of that kind. A kind that lives outside of this package, as one
of a test does, brings all its aspects with `register`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from kd_core.config.data import CLASSIFICATION, TASKS, TaskParams
from kd_core.runtime.errors import ParamsError

AspectType = TypeVar("AspectType")

_registered: dict[str, Mapping[str, Any]] = {}


def register(params: type[TaskParams], kind: str, aspects: Mapping[str, Any]) -> None:
    """Make a kind known: the class of its parameters, and for each aspect's name what keeps its protocol."""
    TASKS[kind] = params
    _registered[kind] = dict(aspects)


def aspect(name: str, kind: str, known: Mapping[str, AspectType]) -> AspectType:
    """An aspect of a kind, from the folder's own table or from what was registered.

    Raises ParamsError for a kind that there is not.
    """
    if kind in known:
        return known[kind]
    if kind not in _registered:
        raise ParamsError(f"task.kind: no kind of task is called {kind!r}; there are {', '.join(sorted(TASKS))}")
    found: AspectType = _registered[kind][name]
    return found


def kind_in(record: Mapping[str, Any], key: str = "kind") -> str:
    """The kind that a record of a model, of scores or of a version names.

    Those written before there were several kinds name none: they are of classification. Nothing else has a default.
    """
    return str(record.get(key) or CLASSIFICATION)
