"""Where accepted losses are counted from, and that they do not add up to more than the margin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from kd_core.config.data import CLASSIFICATION
from kd_core.config.evaluation import GateParams
from kd_ops.promotion.evidence import Champion, JudgedRows, Measured, Origin, Speed, Verdict
from kd_ops.promotion.gate import decide
from kd_ops.promotion.history import Lineage, lineage, lost_champion
from kd_ops.promotion.ledger import AliasEvent
from tests.helpers.counting import row_counts, share

ROWS = 1200
GATE = GateParams(min_accuracy=0.5, min_share_of_best_teacher=0.5, margin=0.02, resamples=1000)
SPEED = Speed(2.0, 0.5, "here")


def event(number: int, before: str | None, after: str, proven: bool = False, low: float | None = -0.01) -> AliasEvent:
    base = AliasEvent("m", after, before, after, "PROMOTE", ("why",), "run", "me", "today")
    return replace(base, proven=proven, low=low, number=number)


STORY = [
    event(1, None, "1", proven=True, low=None),
    event(2, "1", "2"),
    event(3, "2", "3", proven=True, low=0.001),
    event(4, "3", "4"),
    event(5, "4", "6", low=-0.004),
]
ALL = ("1", "2", "3", "4", "6")


@pytest.mark.parametrize(
    ("champion", "existing", "expected"),
    [
        ("6", ALL, Lineage("3")),
        ("4", ALL, Lineage("3")),
        ("3", ALL, Lineage("3")),
        ("2", ALL, Lineage("1")),
        ("1", ALL, Lineage("1")),
        ("moved by hand", ALL, Lineage("moved by hand")),
        ("6", ("4", "6"), Lineage("4", 0.01, "3")),
        ("6", ("6",), Lineage("6", 0.014, "3")),
    ],
)
def test_losses_are_counted_from_the_last_proven_version_that_exists(
    champion: str, existing: Sequence[str], expected: Lineage
) -> None:
    assert lineage(STORY, champion, existing) == expected


def test_a_rollback_does_not_make_losses_good() -> None:
    back = AliasEvent("m", "6", "6", "4", "ROLLBACK", ("why",), None, "me", "today", number=6)
    assert lineage([*STORY, back], "4", ALL) == Lineage("3")


def test_losses_that_are_not_on_record_use_up_the_margin() -> None:
    """Events of earlier versions of the product have no bound."""
    old = [event(1, None, "1", low=None), event(2, "1", "2", low=None)]
    assert lineage(old, "2", ("1", "2")) == Lineage("1")
    assert lineage(old, "2", ("2",)) == Lineage("2", math.inf, "1")


def test_a_champion_that_was_deleted_is_missed() -> None:
    assert lost_champion([], ()) is None
    said = lost_champion(STORY, ("1", "2", "3", "4"))
    assert said is not None
    assert "version 6 is the champion by the ledger (PROMOTE by me on today)" in said
    assert "it was deleted from the registry" in said
    assert "`kd rollback --to 4`" in said
    by_hand = lost_champion(STORY, ALL)
    assert by_hand is not None
    assert "its alias was removed by hand" in by_hand
    assert "`kd rollback --to 6`" in by_hand


# Thirty weeks, each with a challenger that is a point worse than the champion


@dataclass
class Weeks:
    """A registry in which only the gate decides; version → its true accuracy."""

    keep: int
    """Champions that are kept; older ones are deleted."""
    random: np.random.Generator
    quality: dict[str, float] = field(default_factory=lambda: {"0": 0.85})
    events: list[AliasEvent] = field(default_factory=lambda: [event(1, None, "0", proven=True, low=None)])
    champions: list[str] = field(default_factory=lambda: ["0"])

    @property
    def accuracy(self) -> float:
        return self.quality[self.champions[-1]]

    def week(self, loss: float) -> Verdict:
        """Judge a challenger whose accuracy is `loss` below the champion's."""
        number, champion = str(len(self.quality) + len(self.events)), self.champions[-1]
        self.quality[number] = self.quality[champion] - loss
        hard = self.random.random(ROWS)
        known = self.champions[-self.keep :]
        found = lineage(self.events, champion, known)
        names = {number, champion, found.version}
        answers = {name: self._answers(hard, self.quality[name]) for name in sorted(names)}
        rows = JudgedRows(row_counts(answers[number]), np.arange(ROWS).astype(str), share)
        model = Measured(number, ("a", "b"), float(answers[number].mean()), 0.9, 5.0, SPEED, CLASSIFICATION)
        old = Champion(champion, champion, ("a", "b"), row_counts(answers[champion]), SPEED, CLASSIFICATION)
        origin = Origin(found.version, row_counts(answers[found.version]), found.spent, found.deleted)
        decision = decide(GATE, model, rows, old, None if found == Lineage(champion) else origin)
        if decision.verdict is Verdict.PROMOTE:
            low = decision.numbers["low"]
            self.events.append(event(len(self.events) + 1, champion, number, decision.proven, low))
            self.champions.append(number)
        return decision.verdict

    def _answers(self, hard: np.ndarray, accuracy: float) -> np.ndarray:
        """[N] bool: which rows are hard is the same for all, 6 % are luck."""
        lucky = self.random.random(ROWS) < 0.06
        return np.where(lucky, self.random.random(ROWS) < accuracy, hard < accuracy)


@pytest.mark.parametrize("keep", [40, 1])
def test_thirty_worse_challengers_cost_no_more_than_the_margin(keep: int) -> None:
    """The fault: 8 of them were promoted, and 85 % became 77 %. With `keep` = 1 every former champion is deleted."""
    lost, promoted = [], 0
    for seed in range(12):
        weeks = Weeks(keep, np.random.default_rng(seed))
        promoted += sum(weeks.week(0.01) is Verdict.PROMOTE for _ in range(30))
        lost.append(0.85 - weeks.accuracy)
    assert promoted > 0, "one point worse is within the margin, once"
    assert np.mean(lost) <= 0.02
    assert max(lost) <= 0.03 + 1e-9


def test_equally_good_challengers_go_on_being_promoted() -> None:
    """Nothing is lost, so nothing is used up: the last ten of thirty weeks are no worse than the first ten."""
    promoted = np.zeros(30)
    for seed in range(8):
        weeks = Weeks(40, np.random.default_rng(seed))
        promoted += [weeks.week(0.0) is Verdict.PROMOTE for _ in range(30)]
    assert promoted[:10].sum() > 40
    assert promoted[20:].sum() > 40
