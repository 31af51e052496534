"""What identifies a score: the text that was scored, and everything about the teacher that scored it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from kd_core.runtime.errors import InvalidDataError
from kd_core.runtime.fingerprint import of_value

if TYPE_CHECKING:
    import pandas as pd

SCORER_VERSION = 1
"""Raised when the same texts and teacher would give other logits because the code changed."""

_KEY_BYTES = 16


def row_key(*texts: str) -> str:
    """32 hex digits over every encoded input of a row (text, and text_pair of a pair); never its position."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()[:_KEY_BYTES].hex()


def row_keys(rows: pd.DataFrame, pair: bool) -> list[str]:
    """The key of each row, in order. Raises InvalidDataError if a column is missing."""
    columns = ["text", "text_pair"] if pair else ["text"]
    missing = [column for column in columns if column not in rows.columns]
    if missing:
        raise InvalidDataError(f"rows have no column {missing[0]!r}, which the teacher reads")
    return [row_key(*texts) for texts in zip(*(rows[column] for column in columns), strict=True)]


@dataclass(frozen=True)
class ScoreSpec:
    """Everything but the text that a score depends on."""

    fingerprint: str
    tokenizer: str
    labels: tuple[str, ...]
    label_order: tuple[int, ...]
    pair: bool
    max_length: int
    precision: str
    scorer_version: int = SCORER_VERSION

    @cached_property
    def key(self) -> str:
        """Name of the folder that holds this teacher's scores."""
        return of_value(asdict(self))


def text_hash(keys: Sequence[str]) -> str:
    """Hash over all scored texts, whatever their order."""
    return of_value(sorted(keys))
