"""Stage two: decoders are replaced, gold and teachers are weighed, and the combined answer is what counts."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from kd_core.config.data import CLASSIFICATION
from kd_core.config.training import FinetuneParams
from kd_core.distill.finetune import combined_answer, target_loss
from kd_core.distill.update import update
from kd_core.inference.batches import encode
from kd_core.runtime.errors import ParamsError
from tests.helpers.distilling import (
    KL,
    PROGRESS,
    TASK,
    TOKENIZER,
    batch_of,
    copy_of,
    gradient,
    moved,
    optimisation,
    same,
    scores_for,
    target_student,
    tiny_student,
)
from tests.helpers.one_unit import decoded, finetune, validation_on
from tests.helpers.tiny import LABELS, tiny_rows


def test_update_replaces_the_decoders_and_no_bit_of_the_encoder() -> None:
    model = tiny_student({"a": ["x", "y"], "b": list(LABELS)})
    before = copy_of(model.encoder)
    update(model, ["t1", "t2", "t3"], ["p", "q", "r", "s"], "probabilities", CLASSIFICATION)
    assert same(model.encoder, before)
    assert list(model.decoders) == ["gold", "t1", "t2", "t3"]
    assert model.decoders["t3"].linear.weight.shape == (4, 16)
    assert model.config.labels == ["p", "q", "r", "s"]
    with pytest.raises(ParamsError, match="gold"):
        update(model, ["gold"], ["p", "q"], "probabilities", CLASSIFICATION)


def test_the_new_decoders_follow_from_the_seed() -> None:
    model, drawn = tiny_student({"a": ["x", "y"]}), {}
    for seed in (1, 2):
        update(model, ["t"], ["p", "q"], "probabilities", CLASSIFICATION, seed=seed)
        drawn[seed] = copy_of(model.decoders)
    assert not same(model.decoders, drawn[1])
    update(model, ["t"], ["p", "q"], "probabilities", CLASSIFICATION, seed=1)
    assert same(model.decoders, drawn[1])


def finetune_params(alpha: float = 0.5, teachers: tuple[str, ...] = ("a",), **changes: Any) -> FinetuneParams:
    return FinetuneParams(
        teachers=teachers, alpha=alpha, distillation=KL, optimisation=optimisation(**({"epochs": 8} | changes))
    )


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_alpha_weighs_gold_against_teachers(alpha: float) -> None:
    rows = tiny_rows(6)
    model, batch = target_student().eval(), batch_of(rows, a=scores_for(rows))
    losses = target_loss(finetune_params(alpha))(model, batch)
    logits = decoded(model, batch)
    hard = torch.nn.functional.cross_entropy(logits["gold"], batch["targets"].squeeze(1))
    p, q = (batch["scores:a"].squeeze(1) / 2).softmax(-1), (logits["a"] / 2).softmax(-1)
    soft = 4 * (p * (p / q).log()).sum(-1).mean()
    assert losses["loss"].item() == pytest.approx(float(((1 - alpha) * hard + alpha * soft).detach()), abs=1e-5)
    losses["loss"].backward()
    assert (gradient(model.decoders["gold"]) > 0) == (alpha < 1)
    assert (gradient(model.decoders["a"]) > 0) == (alpha > 0)
    assert gradient(model.encoder) > 0


def test_unlabelled_rows_give_the_soft_part_only() -> None:
    rows = pd.concat([tiny_rows(4), tiny_rows(8, labels=None, seed=1)], ignore_index=True)
    model, batch = target_student(dropout=0.0).eval(), batch_of(rows, a=scores_for(rows))
    mixed = target_loss(finetune_params())(model, batch)
    labelled = target_loss(finetune_params())(model, {name: tensor[:4] for name, tensor in batch.items()})
    assert float(mixed["loss_gold"].detach()) == pytest.approx(float(labelled["loss_gold"].detach()), abs=1e-5)
    unlabelled = target_loss(finetune_params())(model, {name: tensor[4:] for name, tensor in batch.items()})
    assert float(unlabelled["loss_gold"].detach()) == 0.0
    model.zero_grad()
    unlabelled["loss"].backward()
    assert gradient(model.decoders["gold"]) == 0.0
    assert gradient(model.decoders["a"]) > 0


def test_without_teachers_only_gold_counts_whatever_alpha_is() -> None:
    rows = tiny_rows(6)
    model, batch = tiny_student().eval(), batch_of(rows)
    losses = target_loss(finetune_params(alpha=0.9, teachers=()))(model, batch)
    logits = decoded(model, batch)
    expected = torch.nn.functional.cross_entropy(logits["gold"], batch["targets"].squeeze(1))
    assert float(losses["loss"].detach()) == pytest.approx(float(expected), abs=1e-6)


def test_finetuning_learns_and_keeps_the_epoch_with_the_best_combined_answer() -> None:
    rows, valid = tiny_rows(120), tiny_rows(45, seed=2)
    model = target_student()
    params = finetune_params(epochs=6, learning_rate=0.02, patience=3)
    curves = finetune(model, TOKENIZER, rows, {"a": scores_for(rows)}, valid, TASK, params, PROGRESS)
    accuracies = [value for _, value in curves["valid_accuracy"]]
    encoded = encode(valid, TOKENIZER, TASK)
    kept = validation_on(model, combined_answer(model), encoded, TOKENIZER, 128)
    assert kept is not None
    assert kept.metrics()["accuracy"] == pytest.approx(max(accuracies), abs=1e-6)
    assert max(accuracies) > 0.8


def test_finetuning_moves_the_encoder_and_every_decoder() -> None:
    rows, model = tiny_rows(20), target_student()
    before = copy_of(model)
    finetune(model, TOKENIZER, rows, {"a": scores_for(rows)}, rows, TASK, finetune_params(epochs=1), PROGRESS)
    assert moved(model, before) == {"encoder.embeddings", "encoder.encoder", "decoders.gold", "decoders.a"}


def test_validation_looks_at_the_combined_answer() -> None:
    rows = tiny_rows(9)
    model = target_student().eval()
    batch = batch_of(rows)
    logits = decoded(model, batch)
    expected = (logits["gold"].softmax(-1) + logits["a"].softmax(-1)) / 2
    torch.testing.assert_close(combined_answer(model)(batch).squeeze(1), expected)
