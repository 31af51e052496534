"""Rows of embeddings take AdamW's steps when they occur and stand still otherwise; clipping counts them too."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kd_core.config.training import Optimisation
from kd_core.runtime.progress import Progress
from kd_core.runtime.storage import Storage
from kd_core.training.loop import Batches, train
from kd_core.training.optimizer import clip_gradients, new_optimizer
from kd_core.training.work import Work

ROWS = 9


def optimisation(**changes: object) -> Optimisation:
    return Optimisation.model_validate({"epochs": 3, "learning_rate": 0.02, "checkpoint_seconds": 1e-9} | changes)


def table(sparse: bool) -> nn.Embedding:
    torch.manual_seed(3)
    return nn.Embedding(ROWS, 4, sparse=sparse)


def pulled(model: nn.Embedding, ids: list[int], pull: float = 1.0) -> None:
    """A gradient that is another one in each place."""
    states = model(torch.tensor(ids))
    (states * torch.linspace(-pull, pull, states.numel()).view_as(states)).sum().backward()


def test_rows_that_always_occur_move_as_in_adamw() -> None:
    ours, theirs = table(sparse=True), table(sparse=False)
    optimizers = [new_optimizer(model, optimisation(weight_decay=0.1)) for model in (ours, theirs)]
    for step in range(5):
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            pulled(model, [*range(ROWS), 2, 2], pull=1.0 + step)
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(ours.weight, theirs.weight)


def test_other_rows_keep_every_bit_and_a_rare_row_moves_by_the_learning_rate() -> None:
    model = table(sparse=True)
    optimizer = new_optimizer(model, optimisation(weight_decay=0.0, learning_rate=0.02))
    for _ in range(50):
        pulled(model, [1, 2])
        optimizer.step()
        optimizer.zero_grad()
    before = model.weight.detach().clone()
    pulled(model, [5])
    optimizer.step()
    still = torch.arange(ROWS) != 5
    assert torch.equal(model.weight[still], before[still])
    torch.testing.assert_close((model.weight[5] - before[5]).abs(), torch.full((4,), 0.02), rtol=1e-3, atol=1e-5)


def test_clipping_is_torch_s_and_counts_sparse_gradients() -> None:
    dense = nn.ModuleList([table(sparse=False), nn.Linear(4, 2)])
    sparse = copy.deepcopy(dense)
    sparse[0].sparse = True
    for model in (dense, sparse):
        model[1](model[0](torch.tensor([1, 1, 7]))).mul(40.0).sum().backward()
    nn.utils.clip_grad_norm_(dense.parameters(), 1.0)
    clip_gradients(sparse.parameters(), 1.0)
    torch.testing.assert_close(sparse[0].weight.grad.to_dense(), dense[0].weight.grad)
    assert torch.equal(sparse[1].weight.grad, dense[1].weight.grad)
    clip_gradients([nn.Parameter(torch.zeros(2))], 1.0)  # without gradients there is nothing to do


@pytest.mark.parametrize("fail_at", [2, 9])
def test_a_resumed_training_of_rows_ends_with_the_same_bits(tmp_path: Path, fail_at: int) -> None:
    def run(state: Storage | None, fail_at: int | None = None) -> Tensor:
        model, steps = table(sparse=True), 0

        def loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            nonlocal steps
            steps += 1
            if steps == fail_at:
                raise RuntimeError("power cut")
            return {"loss": model(batch["ids"]).square().mean()}

        batches = Batches(
            lambda generator: [part.tolist() for part in torch.randperm(ROWS, generator=generator).split(2)],
            lambda rows: {"ids": torch.tensor(rows)},
        )
        train(model, loss, batches, optimisation(), Work(None, Progress("test"), state))
        return model.weight.detach()

    with pytest.raises(RuntimeError, match="power cut"):
        run(Storage(tmp_path), fail_at)
    assert torch.equal(run(Storage(tmp_path)), run(None))
