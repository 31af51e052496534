"""What is odd about labels: names that differ by case or spaces, rare ones, one that nearly all rows have."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

_FEW = 10
"""Rows below which a label has hardly any in validation, calibration and test."""
_MOSTLY = 0.8
"""Share of the rows that have the most frequent label."""
_UNEVEN = 100
"""Times as many rows as the rarest label has."""
_NAMED = 5
_LONG_NAME = 60
_MANY_LONG = 0.2


def counted(labels: Sequence[tuple[str, ...] | None]) -> dict[str, int]:
    """Label → its rows, the most frequent first, blank ones left out."""
    counts = Counter(label for row in labels if row is not None for label in row)
    named = [(label, rows) for label, rows in counts.items() if label.strip()]
    return dict(sorted(named, key=lambda pair: (-pair[1], pair[0])))


def label_warnings(counts: Mapping[str, int], column: str, listed: bool, min_accuracy: float | None) -> Iterator[str]:
    """A sentence for each thing that a person should look at."""
    yield from _same_but_for_case(counts)
    once = [label for label, rows in counts.items() if rows == 1]
    few = [label for label, rows in counts.items() if 1 < rows < _FEW]
    if once:
        yield (
            f"{_times(once, 'label has', 'labels have')} one row only, which is trained on: whether the student "
            f"knows {'it' if len(once) == 1 else 'them'} is never tested ({_listed(once)})"
        )
    if few:
        yield f"{_times(few, 'label has', 'labels have')} fewer than {_FEW} rows: {_listed(few)}"
    total = sum(counts.values())
    first, last = next(iter(counts)), list(counts)[-1]
    if not listed and counts[first] >= _MOSTLY * total:
        share = counts[first] / total
        bar = "" if min_accuracy is None or share < min_accuracy else ", and no less than gate.min_accuracy asks"
        yield (
            f"{share:.0%} of the rows have the label {_shown(first)}: a model that always answers it is right as "
            f"often{bar}; look at macro-F1"
        )
    elif counts[first] >= _UNEVEN * counts[last]:
        yield (
            f"labels are uneven: {_shown(first)} has {counts[first]:,} rows, {_shown(last)} {counts[last]:,}; "
            "look at macro-F1 beside accuracy"
        )
    if sum(len(label) > _LONG_NAME for label in counts) > _MANY_LONG * len(counts):
        yield f"column {column!r} may hold free text: many of its values are longer than {_LONG_NAME} characters"


def _same_but_for_case(counts: Mapping[str, int]) -> Iterator[str]:
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for label in counts:
        folded = unicodedata.normalize("NFKC", label).casefold()
        alike["".join(sign for sign in folded if sign.isalnum()) or folded].append(label)
    several = [labels for labels in alike.values() if len(labels) > 1]
    if several:
        shown = "; ".join(" and ".join(map(_shown, labels)) for labels in several[:_NAMED])
        more = f"; and {len(several) - _NAMED} more" if len(several) > _NAMED else ""
        yield f"labels differ only by case, spaces or signs: {shown}{more}; correct them at the source if they are one"


def _times(labels: Sequence[str], one: str, several: str) -> str:
    return f"{len(labels)} {one if len(labels) == 1 else several}"


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(map(_shown, labels[:_NAMED]))
    return shown + (f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else "")


def _shown(label: str) -> str:
    """In quotes, so that spaces around it are seen, and in one line."""
    return repr(label if len(label) <= _LONG_NAME else f"{label[:_LONG_NAME]}…")
