"""The gate's decisions on planted models, and the answers that it compares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kd_core.config.data import CLASSIFICATION
from kd_core.config.evaluation import GateParams
from kd_core.runtime.arrays import Booleans, Floats
from kd_ops.promotion import gate
from kd_ops.promotion.evidence import (
    Champion,
    Decision,
    Groups,
    JudgedRows,
    Measured,
    MostFrequent,
    Origin,
    Speed,
    Verdict,
)
from kd_ops.promotion.floors import check_quality, check_speed
from tests.helpers.counting import row_counts, share

GATE = GateParams(min_accuracy=0.7, min_share_of_best_teacher=0.9, margin=0.02, max_latency_ms=50)
LABELS = ("red", "green", "blue")
N = 4000
GROUPS = np.array([f"g{i // 2}" for i in range(N)])


HERE = Speed(latency_ms=2.0, relative=0.5, machine="here")


def decide(
    limits: GateParams,
    model: Measured,
    correct: Booleans,
    groups: Groups,
    old: Champion | None,
    slices: dict[str, Booleans] | None = None,
    tfidf: Floats | None = None,
    origin: Origin | None = None,
) -> Decision:
    rows = JudgedRows(row_counts(correct), groups, share, tfidf, slices or {})
    return gate.decide(limits, model, rows, old, origin)


def measured(correct: np.ndarray, **values: object) -> Measured:
    base = Measured(
        weights="new",
        labels=LABELS,
        accuracy=float(correct.mean()),
        best_teacher_accuracy=0.9,
        speedup=5.0,
        speed=HERE,
        kind=CLASSIFICATION,
    )
    return replace(base, **values)


def champion(correct: np.ndarray, **values: object) -> Champion:
    return replace(Champion("3", "old", LABELS, row_counts(correct), HERE, CLASSIFICATION), **values)


def answers(wrong: int, n: int = N, first: int = 0) -> np.ndarray:
    """[n] bool, `wrong` of them False, evenly spread from `first` on."""
    correct = np.ones(n, dtype=bool)
    correct[(first + np.arange(wrong) * (n // max(wrong, 1))) % n] = False
    return correct


def worse_by(correct: Booleans, rows: int) -> Booleans:
    """Wrong on so many rows more, evenly spread."""
    found, right = correct.copy(), np.flatnonzero(correct)
    found[right[:: len(right) // rows][:rows]] = False
    return found


def test_the_first_version_is_promoted_when_it_holds_the_floors() -> None:
    correct = answers(600)
    assert decide(GATE, measured(correct), correct, GROUPS, None).verdict is Verdict.PROMOTE


@pytest.mark.parametrize(
    ("broken", "verdict", "word"),
    [
        ({"accuracy": 0.69, "best_teacher_accuracy": 0.7}, Verdict.REJECT, "accuracy 69.0%"),
        ({"best_teacher_accuracy": 0.99}, Verdict.REJECT, "best teacher"),
        ({"speedup": 0.9}, Verdict.HOLD, "slowest teacher"),
        ({"speedup": None}, Verdict.HOLD, "not measured"),
        ({"speed": replace(HERE, latency_ms=51.0)}, Verdict.HOLD, "51.00 ms"),
        ({"speed": replace(HERE, latency_ms=None)}, Verdict.HOLD, "latency was not measured"),
    ],
)
def test_each_floor_holds_for_the_first_version_too(broken: dict[str, object], verdict: Verdict, word: str) -> None:
    """Answers that are too bad stay so, and are rejected; a timing can be taken again, and says how."""
    correct = answers(600)
    decision = decide(GATE, measured(correct, **broken), correct, GROUPS, None)
    assert decision.verdict is verdict
    assert len(decision.reasons) == 1
    assert word in decision.reasons[0]
    assert ("measure.round" in decision.reasons[0]) is (verdict is Verdict.HOLD)


def test_a_floor_of_speed_holds_beside_a_champion_and_hides_no_worse_model() -> None:
    old, worse = answers(400), answers(700, first=3)
    slow = {"speedup": 0.9}
    held = decide(GATE, measured(old, **slow), old, GROUPS, champion(old))
    assert held.verdict is Verdict.HOLD
    assert "slowest teacher" in held.reasons[0]
    assert "not worse" in held.reasons[1]
    assert decide(GATE, measured(worse, **slow), worse, GROUPS, champion(old)).verdict is Verdict.REJECT


def test_a_floor_is_held_at_its_exact_value() -> None:
    model = measured(answers(600), accuracy=0.81, speedup=1.0, speed=replace(HERE, latency_ms=50.0))
    assert not check_quality(GATE, model)
    assert not check_speed(GATE, model)


def test_a_planted_worse_model_is_rejected() -> None:
    old, worse = answers(400), answers(700, first=3)
    decision = decide(GATE, measured(worse), worse, GROUPS, champion(old))
    assert decision.verdict is Verdict.REJECT
    assert "clearly worse" in decision.reasons[0]
    assert decision.numbers["difference"] == pytest.approx(-300 / N)


def test_slightly_worse_within_the_margin_and_with_enough_rows_is_promoted() -> None:
    old = answers(400)
    slightly = old.copy()
    slightly[np.flatnonzero(old)[:20]] = False
    decision = decide(GATE, measured(slightly), slightly, GROUPS, champion(old))
    assert decision.verdict is Verdict.PROMOTE
    assert decision.numbers["high"] < 0, "it is measurably worse, but by less than the margin"


def test_too_few_rows_hold_as_underpowered() -> None:
    old, new = answers(10, n=80), answers(10, n=80, first=3)
    decision = decide(GATE, measured(new), new, GROUPS[:80], champion(old))
    assert decision.verdict is Verdict.HOLD
    assert "only 40 groups" in decision.reasons[0]
    assert "underpowered" in decision.reasons[1]
    assert decision.numbers["detectable"] > GATE.margin
    assert decision.numbers["groups"] == 40
    assert "groups would show it" in decision.reasons[1], "and the user hears how many rows it takes"


def test_more_confidence_asks_for_more_rows() -> None:
    """The same answers have power enough at 95 %, and too little at 99.9 %: the quantile goes with the confidence."""
    old, new = answers(30), answers(30, first=3)
    usual = GATE.model_copy(update={"margin": 0.004})
    powered = decide(usual, measured(new), new, GROUPS, champion(old))
    held = decide(usual.model_copy(update={"confidence": 0.999}), measured(new), new, GROUPS, champion(old))
    assert powered.verdict is Verdict.PROMOTE
    assert held.verdict is Verdict.HOLD
    assert "underpowered" in held.reasons[0]
    ratio = held.numbers["detectable"] / powered.numbers["detectable"]
    assert ratio == pytest.approx(3.090232 / 1.644854)


@pytest.mark.parametrize(
    ("lost", "verdict", "word"), [(48, Verdict.REJECT, "worse, and not shown"), (40, Verdict.HOLD, "not shown")]
)
def test_a_doubtful_model_is_not_promoted(lost: int, verdict: Verdict, word: str) -> None:
    """Enough rows, many answers changed: the interval crosses the margin. Below zero it is worse, else unknown."""
    old, new = np.ones(N, dtype=bool), np.ones(N, dtype=bool)
    changed = 600 if verdict is Verdict.REJECT else 900
    new[: (changed + lost) // 2], old[(changed + lost) // 2 : changed] = False, False
    decision = decide(GATE, measured(new), new, np.arange(N).astype(str), champion(old))
    assert decision.numbers["low"] < -GATE.margin < decision.numbers["high"]
    assert decision.numbers["detectable"] < GATE.margin
    assert decision.verdict is verdict
    assert decision.reasons[0].startswith(word)


def test_too_few_rows_do_not_hide_a_disaster() -> None:
    old, new = answers(4, n=80), answers(20, n=80, first=1)
    assert decide(GATE, measured(new), new, GROUPS[:80], champion(old)).verdict is Verdict.REJECT


def test_clearly_better_is_promoted_even_where_the_margin_could_not_be_judged() -> None:
    old, new = answers(80, n=240), answers(16, n=240)
    decision = decide(GATE, measured(new), new, GROUPS[:240], champion(old))
    assert decision.verdict is Verdict.PROMOTE
    assert decision.numbers["detectable"] > GATE.margin


@pytest.mark.parametrize("rows", [1, 5, 20, 60, 99])
@pytest.mark.parametrize("first", [True, False])
def test_few_rows_promote_nobody_however_well_all_agree(rows: int, first: bool) -> None:
    """The fault: no disagreement on a handful of rows was taken for proof."""
    correct, groups = np.ones(rows, dtype=bool), np.arange(rows).astype(str)
    decision = decide(GATE, measured(correct), correct, groups, None if first else champion(correct))
    assert decision.verdict is Verdict.HOLD
    assert f"only {rows} groups of test rows are left to judge by, fewer than 100" in decision.reasons[0]


def test_agreement_counts_as_much_as_there_are_groups() -> None:
    """Without any disagreement a margin of 2 points takes 149 groups at 95 %, whatever the number of rows."""
    for groups, verdict in ((140, Verdict.HOLD), (165, Verdict.PROMOTE)):
        correct, names = np.ones(10 * groups, dtype=bool), np.repeat(np.arange(groups), 10).astype(str)
        assert decide(GATE, measured(correct), correct, names, champion(correct)).verdict is verdict


def test_the_same_weights_are_held_as_identical() -> None:
    correct = answers(400)
    decision = decide(GATE, measured(correct, weights="old"), correct, GROUPS, champion(correct))
    assert decision.verdict is Verdict.HOLD
    assert "identical" in decision.reasons[0]


def test_another_label_set_is_refused_naming_the_labels() -> None:
    correct = answers(400)
    decision = decide(GATE, measured(correct, labels=("red", "green", "pink")), correct, GROUPS, champion(correct))
    assert decision.verdict is Verdict.REJECT
    assert "pink" in decision.reasons[0]
    assert "blue" in decision.reasons[0]


def test_the_order_of_the_labels_does_not_matter() -> None:
    correct = answers(400)
    decision = decide(GATE, measured(correct, labels=LABELS[::-1]), correct, GROUPS, champion(correct))
    assert decision.verdict is Verdict.PROMOTE


def test_a_slower_model_is_held_on_the_same_machine_only() -> None:
    correct = answers(400)
    slow = measured(correct, speed=replace(HERE, relative=0.65))
    decision = decide(GATE, slow, correct, GROUPS, champion(correct))
    assert decision.verdict is Verdict.HOLD
    assert "1.30×" in decision.reasons[0]
    assert "measure.round" in decision.reasons[0]
    elsewhere = decide(GATE, slow, correct, GROUPS, champion(correct, speed=replace(HERE, machine="there")))
    assert elsewhere.verdict is Verdict.PROMOTE
    assert "another machine" in elsewhere.reasons[-1]


def test_a_busy_machine_holds_nobody_up_and_a_quiet_one_helps_nobody() -> None:
    """Thrice as slow while everything is thrice as slow is no slower; as fast while everything is faster is slower."""
    correct = answers(400)
    busy = measured(correct, speed=replace(HERE, latency_ms=6.0))
    assert decide(GATE, busy, correct, GROUPS, champion(correct)).verdict is Verdict.PROMOTE
    quiet = measured(correct, speed=replace(HERE, relative=1.0))
    decision = decide(GATE, quiet, correct, GROUPS, champion(correct))
    assert decision.verdict is Verdict.HOLD
    assert "2.00×" in decision.reasons[0]


def test_without_a_reference_speeds_are_not_compared() -> None:
    correct = answers(400)
    old = champion(correct, speed=replace(HERE, relative=None))
    decision = decide(GATE, measured(correct), correct, GROUPS, old)
    assert decision.verdict is Verdict.PROMOTE
    assert "is missing" in decision.reasons[-1]


def test_worse_on_one_slice_is_held() -> None:
    old, new = answers(0), answers(0)
    rare = np.arange(N) < 200
    new[:40] = False
    decision = decide(GATE, measured(new), new, GROUPS, champion(old), {"rare": rare})
    assert decision.verdict is Verdict.HOLD
    assert "slice rare" in decision.reasons[0]


def test_rows_of_one_group_count_as_one() -> None:
    """Half the rows repeat one answer: by rows the difference is sure, by groups it is one coincidence."""
    old, new = answers(0, n=400), answers(0, n=400)
    new[:12] = False
    groups = np.array([f"g{i}" for i in range(400)])
    alone = decide(GATE, measured(new), new, groups, champion(old))
    groups[:12] = "twins"
    together = decide(GATE, measured(new), new, groups, champion(old))
    assert alone.numbers["high"] < together.numbers["high"]
    assert together.numbers["high"] > 0


# Worse than it should be, whatever the floors say


def test_a_nearly_constant_student_is_rejected_whatever_the_floors_say() -> None:
    """90 % of the rows have one label: a student that knows no other has 90 % accuracy."""
    correct = np.arange(N) % 10 != 0
    blind = MostFrequent("red", share=0.996, share_of_others=0.97)
    low = GATE.model_copy(update={"min_accuracy": 0.01, "min_share_of_best_teacher": 0.5, "min_macro_f1": 0.01})
    decision = decide(low, measured(correct, most_frequent=blind), correct, GROUPS, None)
    assert decision.verdict is Verdict.REJECT
    assert "nearly constant: it answers 'red' to 99.6% of the test rows" in decision.reasons[0]
    for sound in (replace(blind, share_of_others=0.9), replace(blind, share_of_others=None)):
        assert decide(low, measured(correct, most_frequent=sound), correct, GROUPS, None).verdict is Verdict.PROMOTE


def test_macro_f1_has_a_floor() -> None:
    correct = answers(400)
    decision = decide(GATE, measured(correct, macro_f1=0.49), correct, GROUPS, None)
    assert decision.verdict is Verdict.REJECT
    assert "macro-F1 49.0% is below the floor of 50.0%" in decision.reasons[0]
    assert decide(GATE, measured(correct, macro_f1=0.5), correct, GROUPS, None).verdict is Verdict.PROMOTE


@pytest.mark.parametrize("old", [None, "champion"])
def test_a_student_that_is_shown_to_be_worse_than_tf_idf_is_held(old: str | None) -> None:
    correct, tfidf = answers(600), answers(400)
    rival = champion(answers(700, first=3)) if old else None
    decision = decide(GATE, measured(correct), correct, GROUPS, rival, tfidf=row_counts(tfidf))
    assert decision.verdict is Verdict.HOLD
    assert "worse than TF-IDF with logistic regression: -5.00 points" in decision.reasons[0]
    unsure = row_counts(answers(590, first=3))
    assert decide(GATE, measured(correct), correct, GROUPS, rival, tfidf=unsure).verdict is Verdict.PROMOTE


# Losses add up


def test_accepted_losses_add_up_against_the_last_version_that_was_proven() -> None:
    best = answers(400)
    champ = worse_by(best, 40)
    new = worse_by(champ, 40)
    against = {"old": champion(champ), "correct": new, "groups": GROUPS}
    alone = decide(GATE, measured(new), **against)
    assert (alone.verdict, alone.proven) == (Verdict.PROMOTE, False)
    both = decide(GATE, measured(new), **against, origin=Origin("1", row_counts(best)))
    assert both.verdict is Verdict.HOLD
    assert "the losses accepted since version 1 would exceed the margin of 2.00 points: -2.00" in both.reasons[0]
    near = decide(GATE, measured(new), **against, origin=Origin("1", row_counts(champ)))
    assert near.verdict is Verdict.PROMOTE
    deleted = Origin("2", row_counts(champ), spent=0.018, deleted="1")
    held = decide(GATE, measured(new), **against, origin=deleted)
    assert held.verdict is Verdict.HOLD
    assert "since version 1 would exceed the 0.20 points that are left" in held.reasons[0]
    assert "version 1 was deleted" in held.reasons[0]


def test_a_better_version_is_promoted_and_losses_count_from_it_once_they_are_made_good() -> None:
    champ, new = answers(600), answers(450, first=1)
    for origin, proven in ((answers(400), False), (answers(500), True)):
        decision = decide(GATE, measured(new), new, GROUPS, champion(champ), origin=Origin("1", row_counts(origin)))
        assert (decision.verdict, decision.proven) == (Verdict.PROMOTE, proven)
    lost = Origin("1", row_counts(answers(400)), spent=float("inf"), deleted="0")
    assert decide(GATE, measured(new), new, GROUPS, champion(champ), origin=lost).proven
