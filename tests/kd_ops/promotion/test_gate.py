"""The gate's decisions on planted models, and the answers that it compares."""

from __future__ import annotations

import numpy as np
import pytest

from kd_core.config.data import MULTI_LABEL
from kd_core.config.evaluation import GateParams
from kd_ops.promotion.evidence import Origin, Verdict
from tests.helpers.counting import row_counts
from tests.helpers.judging import GATE, GROUPS, LABELS, N, answers, champion, decide, measured, worse_by


def test_the_first_version_is_promoted_when_it_holds_the_floors() -> None:
    correct = answers(600)
    assert decide(GATE, measured(correct), correct, GROUPS, None).verdict is Verdict.PROMOTE


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


def test_scores_in_between_are_compared_in_full() -> None:
    """No row is quite right with either model; one is better on every row by a little."""
    worse = np.full(500, 0.5)
    gate = GateParams(min_accuracy=0.4, min_share_of_best_teacher=0.5, margin=0.01)
    groups = np.arange(len(worse)).astype(str)
    model = measured(worse, accuracy=0.55, best_teacher_accuracy=0.6, kind=MULTI_LABEL)
    old = champion(worse, kind=MULTI_LABEL)
    decision = decide(gate, model, worse + 0.05, groups, old)
    assert decision.verdict is Verdict.PROMOTE
    assert decision.numbers["difference"] == pytest.approx(0.05)
    assert 0.04 < decision.numbers["low"] < 0.05, "all rows tell the same: hardly any width"
    assert decide(gate, model, worse - 0.05, groups, old).verdict is Verdict.REJECT
