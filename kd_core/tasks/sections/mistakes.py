"""What the tables of mistakes of several kinds share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

SHOWN = 12


def most_frequent(mistakes: Iterable[tuple[int, str, str]]) -> list[dict[str, Any]]:
    """The most frequent of (count, true label, answer), those that occur; of equal ones the first by name."""
    found = sorted((each for each in mistakes if each[0]), key=lambda each: (-each[0], each[1], each[2]))[:SHOWN]
    return [{"rows": count, "label": truth, "predicted": answer} for count, truth, answer in found]
