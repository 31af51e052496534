"""The gate's decisions on planted models, and the answers that it compares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kd_core.config.evaluation import GateParams
from kd_ops.promotion.gate import Champion, Measured, Speed, Verdict, check_quality, check_speed, decide

GATE = GateParams(min_accuracy=0.7, min_share_of_best_teacher=0.9, margin=0.02, max_latency_ms=50)
LABELS = ("red", "green", "blue")
N = 4000
GROUPS = np.array([f"g{i // 2}" for i in range(N)])


HERE = Speed(latency_ms=2.0, relative=0.5, machine="here")


def measured(correct: np.ndarray, **values: object) -> Measured:
    base = Measured(
        weights="new",
        labels=LABELS,
        accuracy=float(correct.mean()),
        best_teacher_accuracy=0.9,
        speedup=5.0,
        speed=HERE,
    )
    return replace(base, **values)


def champion(correct: np.ndarray, **values: object) -> Champion:
    return replace(Champion("3", "old", LABELS, correct, HERE), **values)


def answers(wrong: int, n: int = N, first: int = 0) -> np.ndarray:
    """[n] bool, `wrong` of them False, evenly spread from `first` on."""
    correct = np.ones(n, dtype=bool)
    correct[(first + np.arange(wrong) * (n // max(wrong, 1))) % n] = False
    return correct


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
    assert "underpowered" in decision.reasons[0]
    assert decision.numbers["detectable"] == pytest.approx(1.644854 * np.sqrt(20 / 80 / 80))


def test_more_confidence_asks_for_more_rows() -> None:
    """The same answers have power enough at 95 %, and too little at 99.9 %: the quantile goes with the confidence."""
    old, new = answers(30), answers(30, first=3)
    usual = GATE.model_copy(update={"margin": 0.004})
    powered = decide(usual, measured(new), new, GROUPS, champion(old))
    held = decide(usual.model_copy(update={"confidence": 0.999}), measured(new), new, GROUPS, champion(old))
    assert powered.verdict is Verdict.PROMOTE
    assert held.verdict is Verdict.HOLD
    assert "underpowered" in held.reasons[0]
    assert held.numbers["detectable"] == pytest.approx(3.090232 * np.sqrt(60 / N / N), rel=1e-6)


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
    old, new = answers(40, n=120), answers(8, n=120)
    assert decide(GATE, measured(new), new, GROUPS[:120], champion(old)).verdict is Verdict.PROMOTE


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
    new[:60] = False
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
    assert together.numbers["high"] == pytest.approx(0.0)
