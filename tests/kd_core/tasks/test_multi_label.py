"""Multi-label: targets, losses, combined answers, uncertainty and metrics against straightforward references."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from torch import Tensor

from kd_core.config.data import MULTI_LABEL
from kd_core.config.training import Distillation
from kd_core.inference.batches import encode
from kd_core.tasks import encode as encoders
from kd_core.tasks.decide import classification, multi_label
from kd_core.tasks.metrics.multi_label import quality, reliability_bins
from kd_core.tasks.units import Units
from tests.helpers.one_unit import combine, hard_loss, soft_loss, targets_of, uncertainty
from tests.helpers.tiny import tiny_tokenizer
from tests.helpers.tiny_multi_label import LABELS, TASK, multi_label_rows

GENERATOR = torch.Generator().manual_seed(0)
STUDENT = torch.randn(5, 7, generator=GENERATOR)
TEACHER = torch.randn(5, 7, generator=GENERATOR)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


# Targets


def test_targets_mark_every_label_that_applies_and_tell_none_from_unknown() -> None:
    rows = multi_label_rows(4)
    rows["label"] = [("blue", "red"), (), None, ("grey",)]
    found = encoders.of(TASK.kind).targets(rows, TASK).values
    assert found.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [-100] * 4, [0, 0, 0, 1]]
    encoded = encode(rows, tiny_tokenizer(), TASK)
    assert targets_of(encoded).tolist() == found.tolist()
    assert encoded.labelled.tolist() == [True, True, False, True]
    assert not encode(rows.drop(columns="label"), tiny_tokenizer(), TASK).labelled.any()
    assert encode(rows.head(0), tiny_tokenizer(), TASK).targets.values.shape == (0, 4)


# Losses


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_divergence_is_bernoulli_summed_over_labels(temperature: float) -> None:
    total = 0.0
    for s, t in zip(STUDENT.flatten().tolist(), TEACHER.flatten().tolist(), strict=True):
        p, q = sigmoid(t / temperature), sigmoid(s / temperature)
        total += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    loss = soft_loss(STUDENT, TEACHER, Distillation(temperature=temperature), MULTI_LABEL)
    assert loss.item() == pytest.approx(temperature**2 * total / 5, rel=1e-4)


def test_squared_error_is_on_sigmoids_summed_over_labels() -> None:
    pairs = zip(STUDENT.flatten().tolist(), TEACHER.flatten().tolist(), strict=True)
    expected = sum((sigmoid(s) - sigmoid(t)) ** 2 for s, t in pairs) / 5
    loss = soft_loss(STUDENT, TEACHER, Distillation(divergence="mse"), MULTI_LABEL)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_hard_loss_is_binary_summed_over_labels_and_averaged_over_labelled_rows() -> None:
    wanted = torch.randint(2, (5, 7), generator=GENERATOR)
    wanted[[1, 3]] = -100
    labelled = [0, 2, 4]
    by_hand = [
        -math.log(sigmoid(z) if y else 1 - sigmoid(z))
        for z, y in zip(STUDENT[labelled].flatten().tolist(), wanted[labelled].flatten().tolist(), strict=True)
    ]
    assert hard_loss(STUDENT, wanted, MULTI_LABEL).item() == pytest.approx(sum(by_hand) / 3, rel=1e-5)


# Answers and uncertainty


def test_decoders_are_combined_as_sigmoids() -> None:
    logits = {"gold": STUDENT, "one": TEACHER}
    weights = {"gold": 1.0, "one": 3.0}
    expected = 0.25 * STUDENT.sigmoid() + 0.75 * TEACHER.sigmoid()
    torch.testing.assert_close(combine(logits, "probabilities", weights, MULTI_LABEL), expected)
    torch.testing.assert_close(combine(logits, "logits", {}, MULTI_LABEL), ((STUDENT + TEACHER) / 2).sigmoid())
    torch.testing.assert_close(combine(logits, "gold", {}, MULTI_LABEL), STUDENT.sigmoid())


def test_uncertainty_is_the_mean_binary_entropy_over_log_two() -> None:
    p = [0.9, 0.5, 0.02]
    expected = sum(-(x * math.log(x) + (1 - x) * math.log(1 - x)) for x in p) / 3 / math.log(2)
    assert uncertainty(torch.tensor([p]), MULTI_LABEL).item() == pytest.approx(expected, abs=1e-6)
    edges = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.5, 0.5]])
    assert uncertainty(edges, MULTI_LABEL).tolist() == pytest.approx([0.0, 1.0])
    both: Tensor = torch.cat([edges, torch.rand(50, 3, generator=GENERATOR)])
    found = multi_label.uncertainty(Units.one_a_row(both.numpy()))
    np.testing.assert_allclose(found, uncertainty(both, MULTI_LABEL).numpy(), atol=1e-6)


# Metrics


def answers(rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that follow the truth loosely; some rows have no label, the last one is never true or given."""
    random = np.random.default_rng(0)
    truth = (random.random((rows, 5)) < [0.5, 0.3, 0.2, 0.05, 0.0]).astype(np.int64)
    found = np.clip(0.55 * truth + random.random((rows, 5)) * 0.6, 0, 1)
    found[:, 4] *= 0.5
    return found, truth


def test_metrics_are_those_of_scikit_learn() -> None:
    found, truth = answers()
    given = (found > 0.5).astype(int)
    seen = (truth | given).any(0)
    assert quality(Units.one_a_row(found), Units.one_a_row(truth)) == {
        "example_f1": pytest.approx(reference.f1_score(truth, given, average="samples", zero_division=1)),
        "micro_f1": pytest.approx(reference.f1_score(truth, given, average="micro")),
        "macro_f1": pytest.approx(reference.f1_score(truth[:, seen], given[:, seen], average="macro")),
        "subset_accuracy": pytest.approx(reference.accuracy_score(truth, given)),
        "log_loss": pytest.approx(reference.log_loss(truth.ravel(), found.ravel())),
        "ece": pytest.approx(calibration_error(found.ravel(), truth.ravel())),
    }


def calibration_error(applies: np.ndarray, truth: np.ndarray) -> float:
    """Confidence is that in the decision taken; 15 bins."""
    confidence, right = np.maximum(applies, 1 - applies), (applies > 0.5) == truth
    total = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            total += inside.sum() * abs(confidence[inside].mean() - right[inside].mean())
    return total / len(applies)


def test_each_decision_is_in_one_bin() -> None:
    found, truth = answers()
    assert reliability_bins(Units.one_a_row(found), Units.one_a_row(truth))["rows"].sum() == truth.size


def test_a_row_scores_the_f1_of_its_labels() -> None:
    gold = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 1]])
    found = np.array([[0.9, 0.1, 0.6], [0.1, 0.5, 0.1], [0.9, 0, 0], [0.9, 0, 0], [0.1, 0.2, 0.3]])
    probabilities, truth = Units.one_a_row(found), Units.one_a_row(gold)
    counts = multi_label.counts(multi_label.decisions(probabilities), truth)
    assert counts[:, 0].tolist() == pytest.approx([2 / 4, 1, 0, 1, 0])
    assert counts[:, 1].tolist() == [1] * 5
    assert next(iter(quality(probabilities, truth))) == multi_label.MAIN_METRIC


def test_answers_are_named_in_the_order_of_the_alphabet() -> None:
    found = multi_label.decisions(Units.one_a_row([[0.9, 0.2, 0.7, 0.1], [0.1, 0.1, 0.1, 0.1]]))
    assert multi_label.named(found, LABELS) == [("blue", "red"), ()]
    assert classification.named(Units.one_a_row([2, 0]), LABELS) == ["blue", "red"]
