"""What each kind of task must keep to, whatever else it does."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from kd_core.config.data import CLASSIFICATION, MULTI_LABEL, TASKS, TaskParams
from kd_core.config.training import Distillation
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.tasks import decide, encode, heads, loss, metrics
from kd_core.tasks.kinds import kind_in
from kd_core.tasks.units import Units
from tests.conftest import PROJECT
from tests.helpers import digits
from tests.helpers.tiny import tiny_rows
from tests.helpers.tiny_multi_label import multi_label_rows

digits.register()
N = 40


def digit_rows(n: int) -> pd.DataFrame:
    rows = digits.rows(n, seed=0)
    return rows.assign(id=[f"row{index}" for index in range(n)], label=[tuple(x.split("|")) for x in rows["label"]])


ROWS: dict[str, Callable[[int], pd.DataFrame]] = {
    CLASSIFICATION: tiny_rows,
    MULTI_LABEL: multi_label_rows,
    digits.KIND: digit_rows,
}
LABELS = {
    CLASSIFICATION: ("red", "green", "blue"),
    MULTI_LABEL: ("red", "green", "blue", "grey"),
    digits.KIND: digits.LABELS,
}


@pytest.fixture(params=sorted(ROWS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def gold_of(kind: str) -> Units:
    return encode.of(kind).targets(ROWS[kind](N), TaskParams(kind=kind, labels=LABELS[kind]))


def answers_of(kind: str, seed: int = 0) -> Units:
    gold = gold_of(kind)
    logits = torch.randn(len(gold.values), len(LABELS[kind]), generator=torch.Generator().manual_seed(seed))
    return gold.with_values(heads.of(kind).probabilities(logits).numpy())


def test_counts_are_numbers_that_may_be_added(kind: str) -> None:
    task, gold = decide.of(kind), gold_of(kind)
    counts = task.counts(task.decisions(answers_of(kind)), gold)
    assert counts.dtype == np.float64
    assert len(counts) == N
    both = task.metric(np.stack([counts.sum(0), counts[:5].sum(0)]))
    assert both[0] == pytest.approx(float(task.metric(counts.sum(0))))
    assert float(task.metric(task.counts(gold, gold).sum(0))) == 1.0


def test_the_metric_of_the_counts_is_the_main_metric_of_the_evaluation(kind: str) -> None:
    task, gold, answers = decide.of(kind), gold_of(kind), answers_of(kind)
    found = metrics.of(kind).quality(answers, gold)
    counts = task.counts(task.decisions(answers), gold)
    assert next(iter(found)) == task.MAIN_METRIC
    assert float(task.metric(counts.sum(0))) == pytest.approx(found[task.MAIN_METRIC], abs=1e-12)


def test_gold_is_named_as_the_rows_have_it(kind: str) -> None:
    assert decide.of(kind).named(gold_of(kind), LABELS[kind]) == ROWS[kind](N)["label"].tolist()


def test_units_follow_from_the_text_alone(kind: str) -> None:
    rows = ROWS[kind](N)
    sizes = encode.of(kind).sizes([rows["text"].tolist()])
    assert sizes.tolist() == gold_of(kind).sizes.tolist()
    unlabelled = encode.of(kind).targets(rows.assign(label=None), TaskParams(kind=kind, labels=LABELS[kind]))
    assert sizes.tolist() == unlabelled.sizes.tolist()
    assert (unlabelled.values == -100).all()


def test_a_model_agrees_with_itself_and_is_sure_between_zero_and_one(kind: str) -> None:
    task, answers, other = decide.of(kind), answers_of(kind), answers_of(kind, seed=1)
    assert task.same(task.decisions(answers), task.decisions(answers)).all()
    assert not task.same(task.decisions(answers), task.decisions(other)).all()
    uncertainty = task.uncertainty(answers)
    assert uncertainty.shape == (N,)
    assert ((uncertainty >= 0) & (uncertainty <= 1)).all()


@pytest.mark.parametrize("divergence", ["kl", "mse"])
def test_padding_changes_no_loss_and_equal_answers_cost_nothing(kind: str, divergence: Any) -> None:
    gold, params = gold_of(kind), Distillation(divergence=divergence)
    logits = gold.with_values(np.random.default_rng(0).normal(size=(len(gold.values), len(LABELS[kind]))))
    one_by_one, rows = [], range(N)
    values, mask = (torch.from_numpy(each) for each in logits.padded(rows))
    wanted = torch.from_numpy(gold.padded(rows, -100)[0])
    for row in rows:
        alone, own = (torch.from_numpy(each) for each in logits.padded([row]))
        one_by_one.append(float(loss.of(kind).hard(alone, torch.from_numpy(gold.padded([row], -100)[0]), own)))
    assert float(loss.of(kind).hard(values, wanted, mask)) == pytest.approx(np.mean(one_by_one), rel=1e-5)
    assert float(loss.of(kind).soft(values, values, mask, params)) == pytest.approx(0, abs=1e-6)
    assert float(loss.of(kind).soft(values, 2 * values, mask, params)) > 0


def logits_of(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits [B, U, C] of a batch, and its mask."""
    gold = gold_of(kind)
    logits = gold.with_values(np.random.default_rng(1).normal(size=(len(gold.values), len(LABELS[kind]))))
    values, mask = (torch.from_numpy(each) for each in logits.padded(range(N)))
    return values, mask


@pytest.mark.parametrize("divergence", ["kl", "mse"])
def test_a_batch_given_twice_costs_no_more(kind: str, divergence: Any) -> None:
    params, (student, mask) = Distillation(divergence=divergence, temperature=2.0), logits_of(kind)
    teacher = student.flip(-1)
    once = loss.of(kind).soft(student, teacher, mask, params)
    twice = loss.of(kind).soft(*(each.repeat(2, *[1] * (each.dim() - 1)) for each in (student, teacher, mask)), params)
    assert float(once) > 0
    torch.testing.assert_close(twice, once)


@pytest.mark.parametrize("divergence", ["kl", "mse"])
def test_sure_teachers_give_finite_losses(kind: str, divergence: Any) -> None:
    student, mask = logits_of(kind)
    sure = 200 * student.sign()
    assert torch.isfinite(loss.of(kind).soft(-sure, sure, mask, Distillation(divergence=divergence)))


def test_without_labels_the_hard_loss_is_zero_with_zero_gradient(kind: str) -> None:
    student, mask = logits_of(kind)
    student.requires_grad_()
    unknown = torch.full_like(torch.from_numpy(gold_of(kind).padded(range(N), -100)[0]), -100)
    found = loss.of(kind).hard(student, unknown, mask)
    found.backward()
    assert float(found) == 0.0
    assert student.grad is not None
    assert not student.grad.any()


def test_logits_of_probabilities_are_finite_and_say_the_same(kind: str) -> None:
    head, (logits, _) = heads.of(kind), logits_of(kind)
    probabilities = head.probabilities(logits)
    torch.testing.assert_close(head.probabilities(head.logits_of(probabilities)), probabilities)
    assert torch.isfinite(head.logits_of(probabilities.round())).all()


def test_a_label_outside_the_set_is_refused_with_its_row(kind: str) -> None:
    rows = ROWS[kind](3)
    right = rows.at[1, "label"]
    rows["label"] = rows["label"].astype(object)
    rows.at[1, "label"] = "violet" if isinstance(right, str) else ("violet", *right[1:])
    with pytest.raises(InvalidDataError, match=rf"{rows['id'][1]}.*violet"):
        encode.of(kind).targets(rows, TaskParams(kind=kind, labels=LABELS[kind]))


def test_a_kind_that_there_is_not_is_named() -> None:
    with pytest.raises(ParamsError, match="no kind of task is called 'tagging'"):
        decide.of("tagging")


def test_records_without_a_kind_are_of_classification() -> None:
    assert kind_in({}) == CLASSIFICATION
    assert kind_in({"kd.task": MULTI_LABEL}, "kd.task") == MULTI_LABEL
    assert set(TASKS) >= {CLASSIFICATION, MULTI_LABEL}


def test_no_file_outside_of_the_tasks_names_a_kind() -> None:
    named = re.compile(
        r"""\bMULTI_LABEL\b|\bCLASSIFICATION\b|["']classification["']|["']multi_label_classification["']"""
    )
    files = [path for room in ("kd_core", "kd_ops", "components") for path in (PROJECT / room).rglob("*.py")]
    found = {path.relative_to(PROJECT).as_posix() for path in files if named.search(path.read_text(encoding="utf-8"))}
    outside = {path for path in found if not path.startswith(("kd_core/tasks/", "kd_core/config/data.py"))}
    assert not outside
