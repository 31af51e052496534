"""What a person names in params: labels, splits, columns and files; wrong ones are told in one sentence each."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

Split = Literal["train", "valid", "calibration", "test", "unlabelled"]
SPLITS: tuple[str, ...] = ("train", "valid", "calibration", "test", "unlabelled")

Column = Literal["id", "text", "text_pair", "label"]
"""Our columns, as the `columns` of a source names them."""

Paths = str | tuple[str, ...]
"""A file, a folder, a glob, or several of these."""


def _quoted(value: Any) -> Any:
    """Names that YAML takes for something else: yes, no, on and off are booleans there, 01 is a number."""
    if isinstance(value, bool):
        word = "yes" if value else "no"
        raise ValueError(f'YAML reads yes, no, on, off, true and false as booleans: write "{word}" in quotes')
    if isinstance(value, int | float):
        raise ValueError(f'a label is text: write "{value}" in quotes')
    return value


def _paths(value: Any) -> Any:
    """One path, a list of them, or either for each split; said here once, not for each form that it could have."""
    if isinstance(value, dict):
        if unknown := [split for split in value if split not in SPLITS]:
            raise ValueError(f"no split {unknown[0]!r}; there are {', '.join(SPLITS)}")
        return {split: _paths(paths) for split, paths in value.items()}
    if isinstance(value, list | tuple) and value and all(isinstance(path, str) for path in value):
        return tuple(value)
    if not isinstance(value, str) or not value:
        raise ValueError("give a path, a list of paths, or one of these for each split")
    return value


def _only_id_is_null(columns: dict[Column, str | None]) -> dict[Column, str | None]:
    for ours, theirs in columns.items():
        if theirs is None and ours != "id":
            raise ValueError(f"{ours}: null; only the column of ids may be none, name this one")
    return columns


LabelName = Annotated[str, BeforeValidator(_quoted)]
"""A label of a task or a teacher."""
SplitPaths = Annotated[Paths | dict[Split, Paths], BeforeValidator(_paths)]
"""Files of all rows, or of each split."""
ColumnNames = Annotated[dict[Column, str | None], AfterValidator(_only_id_is_null)]
"""Our column → theirs."""
