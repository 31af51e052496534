"""Assigns near-duplicate groups to splits: stratified, by a stable hash, and faithful to earlier revisions.

The rules, in order:
1. a group is on one side: training (train, unlabelled), valid, calibration or test;
2. a text keeps the split it had in an earlier revision; what was ever trained on is never tested on;
3. each class has a training row;
4. each stratum's groups fill test, calibration, valid and train in proportion; what is left is unlabelled. A stratum is
   a label; where rows have several, the rarest that they have.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kd_core.config.data import SplitParams
from kd_core.data.splits.words import stable_order
from kd_core.runtime.errors import InvalidDataError, ParamsError

TRAINING_FIRST = ("train", "unlabelled", "valid", "calibration", "test")
"""Where groups of several earlier splits are merged, the first of these wins."""

FILL_ORDER = ("test", "calibration", "valid", "train")
"""Test first: a larger training split then takes rows that were unlabelled, not rows that were tested on."""

NONE_APPLIES = "(no label)"
"""Stands for a label where none applies to a row."""

_UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class Group:
    """Near-duplicate rows, which stay together."""

    name: str
    strata: tuple[str, ...]
    """The stratum of each of its labelled rows: their labels, where rows have one."""
    earlier: frozenset[str] = frozenset()
    """Splits that texts of the group were in, in earlier revisions."""
    more_labels: frozenset[str] = frozenset()
    """Labels that its rows have besides the one that is their stratum."""

    @property
    def size(self) -> int:
        """Number of labelled rows."""
        return len(self.strata)

    @property
    def labels(self) -> frozenset[str]:
        """All labels of its rows."""
        return frozenset(self.strata) | self.more_labels

    @property
    def stratum(self) -> str:
        """The most frequent one of its rows; the first in the alphabet among equals."""
        counts = Counter(self.strata)
        return min(counts, key=lambda label: (-counts[label], label))


def strata_of(labels: Sequence[Iterable[str] | None]) -> list[str | None]:
    """The stratum of each row from its labels (None: unlabelled): the rarest of them, or NONE_APPLIES.

    Splits in proportion within these strata are in proportion for each label, exactly for the rare ones, which chance
    would spread worst; iterative stratification (Sechidis et al. 2011) starts from the rarest label for that reason.
    """
    counts = Counter(label for row in labels if row is not None for label in row)
    return [
        None if row is None else min(row, key=lambda label: (counts[label], label), default=NONE_APPLIES)
        for row in labels
    ]


@dataclass
class Assignment:
    """Split of each group, by the group's name, and what a person should know of how it came about."""

    splits: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def split_sizes(params: SplitParams, rows: int, splits: Sequence[str] = FILL_ORDER) -> dict[str, int]:
    """Rows wanted in each of `splits` out of `rows`: counts as they are, shares of `rows` rounded down.

    Raises ParamsError if the shares exceed 1, InvalidDataError if there are fewer rows than wanted.
    """
    values = {split: float(getattr(params, split)) for split in splits}
    if sum(share for share in values.values() if share < 1) > 1 + 1e-9:
        raise ParamsError("split: the shares add up to more than 1; lower one of them")
    sizes = {split: int(v) if v >= 1 else int(v * rows + 1e-6) for split, v in values.items()}
    if sum(sizes.values()) > rows:
        wanted = ", ".join(f"{split} {size}" for split, size in sizes.items())
        raise InvalidDataError(
            f"split asks for {sum(sizes.values())} labelled rows ({wanted}), but there are {rows}: "
            "lower the counts in data.<role>.split, use shares below 1, or bring more data"
        )
    return sizes


def assign(
    groups: Sequence[Group], params: SplitParams, splits: Sequence[str] = FILL_ORDER, rest: str | None = None
) -> Assignment:
    """The split of each group.

    Groups without labelled rows become unlabelled, unless an earlier revision says otherwise. `splits` are those to be
    filled; `rest` takes what is left over, by default unlabelled, or train where the shares add up to 1 (rounding).
    Raises as `split_sizes`.
    """
    ordered = [groups[position] for position in stable_order(params.seed, [group.name for group in groups])]
    rows = sum(group.size for group in ordered)
    sizes = split_sizes(params, rows, splits) if rows else dict.fromkeys(splits, 0)
    shares = [float(getattr(params, split)) for split in splits]
    if rest is None:
        rest = "train" if all(s < 1 for s in shares) and abs(sum(shares) - 1) < 1e-6 else _UNLABELLED
    assignment = Assignment()
    _keep_earlier(ordered, assignment)
    _trim(ordered, assignment, {s: n for s, n in sizes.items() if getattr(params, s) >= 1})
    if sizes.get("train") or rest == "train":
        _one_training_row_a_class(ordered, assignment)
    _fill(ordered, assignment, sizes, rest)
    _note_shortfalls(ordered, assignment, sizes)
    return assignment


def _keep_earlier(groups: Sequence[Group], assignment: Assignment) -> None:
    merged = 0
    for group in groups:
        if group.earlier:
            assignment.splits[group.name] = min(group.earlier, key=TRAINING_FIRST.index)
            merged += "test" in group.earlier and len(group.earlier) > 1
    if merged:
        assignment.notes.append(
            f"{merged} groups left the test split: new texts made them near-duplicates of texts seen in training"
        )


def _trim(groups: Sequence[Group], assignment: Assignment, sizes: Mapping[str, int]) -> None:
    """A split whose wanted count is now lower gives its last groups to the unlabelled ones."""
    for split, size in sizes.items():
        taken = 0
        for group in groups:
            if assignment.splits.get(group.name) != split:
                continue
            if taken + group.size > size:
                assignment.splits[group.name] = _UNLABELLED
            else:
                taken += group.size


def _one_training_row_a_class(groups: Sequence[Group], assignment: Assignment) -> None:
    missing = {label for group in groups for label in group.labels}
    for group in groups:
        if assignment.splits.get(group.name) == "train":
            missing -= group.labels
    for group in groups:
        if missing & group.labels and assignment.splits.get(group.name, _UNLABELLED) == _UNLABELLED:
            assignment.splits[group.name] = "train"
            missing -= group.labels


def _fill(groups: Sequence[Group], assignment: Assignment, sizes: Mapping[str, int], rest: str) -> None:
    strata: defaultdict[str, list[Group]] = defaultdict(list)
    for group in groups:
        if group.size:
            strata[group.stratum].append(group)
        else:
            assignment.splits.setdefault(group.name, _UNLABELLED)
    open_rows = dict(sizes)
    for group in groups:
        split = assignment.splits.get(group.name)
        if split in open_rows:
            open_rows[split] -= group.size
    for quotas, stratum in zip(_quotas(strata, sizes), strata.values(), strict=True):
        _fill_stratum(stratum, assignment, quotas, open_rows)
    _use_up([group for stratum in strata.values() for group in stratum], assignment, open_rows, rest)


def _fill_stratum(
    stratum: Sequence[Group], assignment: Assignment, quotas: dict[str, int], open_rows: dict[str, int]
) -> None:
    for group in stratum:
        split = assignment.splits.get(group.name)
        if split in quotas:
            quotas[split] -= group.size
    for group in stratum:
        for split in quotas:
            if min(quotas[split], open_rows[split]) >= group.size and _may_enter(group, split, assignment):
                assignment.splits[group.name] = split
                quotas[split] -= group.size
                open_rows[split] -= group.size
                break


def _may_enter(group: Group, split: str, assignment: Assignment) -> bool:
    """New groups may enter any split, unlabelled ones any but test."""
    earlier = assignment.splits.get(group.name)
    return earlier is None or (earlier == _UNLABELLED and split != "test")


def _use_up(groups: Sequence[Group], assignment: Assignment, open_rows: dict[str, int], rest: str) -> None:
    """Groups too large for what their label's quotas had left: to any split with room, then to `rest`."""
    for split in open_rows:
        for group in groups:
            if open_rows[split] >= group.size and _may_enter(group, split, assignment):
                assignment.splits[group.name] = split
                open_rows[split] -= group.size
    for group in groups:
        assignment.splits.setdefault(group.name, rest)


def _quotas(strata: Mapping[str, Sequence[Group]], sizes: Mapping[str, int]) -> list[dict[str, int]]:
    """Rows of each split that each stratum gives: in proportion, by largest remainder, never more than it has."""
    rows = [sum(group.size for group in stratum) for stratum in strata.values()]
    names = list(strata)
    quotas: list[dict[str, int]] = [{} for _ in rows]
    left = list(rows)
    for split, size in sizes.items():
        exact = [size * n / max(sum(rows), 1) for n in rows]
        whole = [min(int(value), have) for value, have in zip(exact, left, strict=True)]
        by_remainder = sorted(range(len(rows)), key=lambda i: (whole[i] - exact[i], names[i]))
        for i in by_remainder:
            if sum(whole) < size and whole[i] < left[i]:
                whole[i] += 1
        for i, value in enumerate(whole):
            quotas[i][split] = value
            left[i] -= value
    return quotas


def _note_shortfalls(groups: Sequence[Group], assignment: Assignment, sizes: Mapping[str, int]) -> None:
    filled: Counter[str] = Counter()
    for group in groups:
        filled[assignment.splits[group.name]] += group.size
    for split, size in sizes.items():
        if filled[split] < size:
            assignment.notes.append(
                f"{split} has {filled[split]} labelled rows of the {size} asked for: "
                "the remaining groups are too large for it, or were in another split in an earlier revision"
            )
