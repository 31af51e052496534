"""Pooling, the combined answer, and normalised entropy (docs/methods.md §1, §2)."""

from __future__ import annotations

import math

import pytest
import torch

from kd_core.config.data import CLASSIFICATION
from kd_core.runtime.errors import ParamsError
from kd_core.tasks import heads
from kd_core.tasks.heads.modules import Branch, Decoder, pool
from tests.helpers.one_unit import combine, uncertainty

LOGITS = {"gold": torch.tensor([[2.0, 0.0, -1.0]]), "one": torch.tensor([[0.0, 3.0, 0.0]])}


def test_mean_pooling_ignores_padding() -> None:
    hidden = torch.randn(2, 5, 4)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    changed = hidden.clone()
    changed[0, 3:] = 1e6
    assert torch.equal(pool(hidden, mask, "mean"), pool(changed, mask, "mean"))
    torch.testing.assert_close(pool(hidden, mask, "mean")[0], hidden[0, :3].mean(0))
    assert torch.equal(pool(hidden, mask, "cls"), hidden[:, 0])


def test_decoders_and_branches_give_one_logit_a_class_and_unit() -> None:
    hidden, batch = torch.randn(3, 5, 8), {"attention_mask": torch.ones(3, 5, dtype=torch.long)}
    kind = heads.of(CLASSIFICATION)
    assert Decoder(8, 4, 0.1, "mean", kind)(hidden, batch).shape == (3, 1, 4)
    branch = Branch(8, 4, 2, "cls", kind)
    logits = branch(branch.gathered(hidden, batch))
    assert logits.shape == (3, 1, 4)
    torch.testing.assert_close(logits[:, 0], branch.linear(torch.tanh(branch.narrow(hidden[:, 0]))))


def test_probabilities_are_averaged_by_weight() -> None:
    expected = 0.25 * LOGITS["gold"].softmax(-1) + 0.75 * LOGITS["one"].softmax(-1)
    torch.testing.assert_close(combine(LOGITS, "probabilities", {"gold": 1.0, "one": 3.0}), expected)
    uniform = (LOGITS["gold"].softmax(-1) + LOGITS["one"].softmax(-1)) / 2
    torch.testing.assert_close(combine(LOGITS, "probabilities", {}), uniform)


def test_logits_are_averaged_before_the_softmax() -> None:
    expected = ((LOGITS["gold"] + LOGITS["one"]) / 2).softmax(-1)
    torch.testing.assert_close(combine(LOGITS, "logits", {}), expected)
    assert not torch.allclose(expected, combine(LOGITS, "probabilities", {}))


def test_gold_asks_the_gold_decoder_alone() -> None:
    torch.testing.assert_close(combine(LOGITS, "gold", {}), LOGITS["gold"].softmax(-1))
    with pytest.raises(ParamsError, match="gold"):
        combine({"one": LOGITS["one"]}, "gold", {})


def test_missing_or_senseless_weights_are_refused() -> None:
    with pytest.raises(ParamsError, match="one"):
        combine(LOGITS, "logits", {"gold": 1.0})
    with pytest.raises(ParamsError, match="positive sum"):
        combine(LOGITS, "logits", {"gold": 0.0, "one": 0.0})


@pytest.mark.parametrize("classes", [2, 3, 77])
def test_uncertainty_runs_from_zero_to_one(classes: int) -> None:
    certain = torch.eye(classes)
    assert torch.equal(uncertainty(certain), torch.zeros(classes))
    torch.testing.assert_close(uncertainty(torch.full((1, classes), 1 / classes)), torch.ones(1))
    random = torch.rand(500, classes).softmax(-1)
    assert ((uncertainty(random) >= 0) & (uncertainty(random) <= 1)).all()


def test_uncertainty_is_the_entropy_over_log_c() -> None:
    p = [0.7, 0.2, 0.1]
    expected = -sum(x * math.log(x) for x in p) / math.log(3)
    assert uncertainty(torch.tensor([p])).item() == pytest.approx(expected, abs=1e-6)
