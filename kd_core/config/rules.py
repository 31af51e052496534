"""Rules about params that both the start of a run and its stages go by.

Unlike the classes of params, which hold fields and validators only, this is code that a stage runs, and so part of the
key of each stage that imports it (kd_ops/stages/closures.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kd_core.config.data import BotocoreSource, DataParams, FilesSource
from kd_core.config.names import Paths, Split
from kd_core.config.training import AttentionDistillation
from kd_core.runtime.errors import ParamsError


def has_pairs(data: DataParams) -> bool:
    """Whether rows come with a second text. Without a task nothing says so but the mapping of the column."""
    if isinstance(data.source, BotocoreSource):
        return data.source.dataset == "pairs"
    return "text_pair" in data.source.columns or (data.task is not None and data.task.pair)


def paths_of(source: FilesSource) -> dict[Split | None, tuple[str, ...]]:
    """Split → its files, folders and globs; the key is None where rows come without a split."""
    given: Mapping[Any, Paths] = {None: source.path} if isinstance(source.path, str | tuple) else source.path
    return {split: (path,) if isinstance(path, str) else path for split, path in given.items()}


def common_heads(params: AttentionDistillation, teacher: tuple[int, int], student: tuple[int, int]) -> int:
    """R: as asked for, or the head count of both. Shapes are (hidden units, heads). Raises ParamsError."""
    wanted = params.relation_heads
    if wanted is None:
        if teacher[1] != student[1]:
            raise ParamsError(
                f"pretrain.attention.relation_heads: needed, since the live teacher has {teacher[1]} heads "
                f"and the student {student[1]}"
            )
        return teacher[1]
    for name, hidden in (("live teacher", teacher[0]), ("student", student[0])):
        if hidden % wanted:
            raise ParamsError(
                f"pretrain.attention.relation_heads: {wanted} does not divide the {name}'s {hidden} units"
            )
    return wanted
