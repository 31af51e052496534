"""What a student must hold whoever the champion is: quality, speed, more than one answer, no worse than TF-IDF."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kd_ops.promotion.evidence import MostFrequent, Verdict
from kd_ops.promotion.floors import check_quality, check_speed
from tests.helpers.counting import row_counts
from tests.helpers.judging import GATE, GROUPS, HERE, N, answers, champion, decide, measured


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
