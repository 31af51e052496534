"""The one training loop: AdamW on accelerate, token batches, early stopping, checkpoints with exact resume, curves.

A stage brings a model, a loss over one batch and the batches of an epoch; everything else is here. Each epoch's order
follows from (seed, epoch) and all random states are checkpointed, so on CPU a run that was killed and resumed ends
with the same bits as one that was not.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn

from kd_core.config.training import Optimisation
from kd_core.inference.batches import Batch
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.training.checkpoint import Curves, Position, identity_of, pack, unpack
from kd_core.training.interruption import Interruption
from kd_core.training.optimizer import clip_gradients, learning_rate_factor, new_optimizer
from kd_core.training.work import Work

Loss = Callable[[Any, Batch], dict[str, Tensor]]
"""(model, batch) → scalars; `loss` is minimised, all of them are drawn as curves."""

GRADIENT_NORM = 1.0
POINTS_PER_EPOCH = 10
CHECKPOINT = "checkpoint.safetensors"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batches:
    """The rows of a training run, cut into batches."""

    order: Callable[[torch.Generator], list[list[int]]]
    """One epoch's batches of row numbers, shuffled by the generator."""
    collate: Callable[[list[int]], Batch]
    """Row numbers → tensors on the CPU."""


@dataclass(frozen=True)
class Validation:
    """Runs after each epoch, in eval mode and without gradients; must not draw random numbers."""

    metrics: Callable[[], dict[str, float]]
    """Name → value; drawn as the curve `valid_<name>`."""
    score: str
    """The metric that decides which epoch is best; higher is better."""


def train(
    model: nn.Module,
    loss: Loss,
    batches: Batches,
    optimisation: Optimisation,
    work: Work,
    validation: Validation | None = None,
) -> Curves:
    """Train `model` in place and return its curves; with patience it ends with the best epoch's weights.

    With `work.state`, unfinished work is saved there at most every `checkpoint_seconds` and when the process is asked
    to stop, and taken up by the next call. Raises ParamsError if the loss stops being finite or if patience has no
    validation to look at, InvalidDataError if there is nothing to train on.
    """
    if optimisation.patience is not None and validation is None:
        raise ParamsError("optimisation.patience: there are no labelled validation rows to measure progress on")
    training = _Training(model, loss, batches, optimisation, work, validation)
    training.resume()
    with Interruption() as interruption, _threads(optimisation.threads):
        training.run(interruption)
    return training.position.curves


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Compute with so many CPU threads; None: as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Objective(nn.Module):
    """Model and loss as one module, so that a wrapper around `forward` (DDP) sees every gradient."""

    def __init__(self, model: nn.Module, loss: Loss, precision: str) -> None:
        super().__init__()
        self.model = model
        self._loss = loss
        self._bf16 = precision == "bf16"

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        # Not left to Accelerator(mixed_precision=…): that setting is one per process, and stages differ in it.
        device = next(self.model.parameters()).device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self._bf16):
            return self._loss(self.model, batch)


class _Training:
    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        batches: Batches,
        optimisation: Optimisation,
        work: Work,
        validation: Validation | None,
    ) -> None:
        self.position = Position()
        self._best: dict[str, Tensor] = {}
        self._model = model
        self._batches = batches
        self._optimisation = optimisation
        self._progress = work.progress
        self._validation = validation
        # A batch without gold labels leaves the gold decoder, and some encoders' pooler, without a gradient.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        self._accelerator = Accelerator(kwargs_handlers=[unused])
        self._state = work.state if self._accelerator.is_main_process else None
        self._readable = work.state
        self._saved = time.monotonic()
        self._identity = _identity(model, optimisation)
        self._plain_optimizer = new_optimizer(model, optimisation)
        self._objective, self._optimizer = self._accelerator.prepare(
            _Objective(model, loss, optimisation.precision), self._plain_optimizer
        )
        torch.manual_seed(optimisation.seed + self._accelerator.process_index)

    def resume(self) -> None:
        """Take up the checkpoint, if there is one of this very run."""
        if self._readable is None or not self._readable.exists(CHECKPOINT):
            return
        data = self._readable.read(CHECKPOINT)
        if identity_of(data) != self._identity:
            logger.warning("%s/%s belongs to another training run: starting anew", self._readable.url, CHECKPOINT)
            return
        self.position, self._best = unpack(data, self._model, self._plain_optimizer)
        if not self._accelerator.is_main_process:  # only the main process's random state was kept
            torch.manual_seed(self._optimisation.seed + self.position.step + self._accelerator.process_index)

    def run(self, interruption: Interruption) -> None:
        """All epochs that are left."""
        while self.position.epoch < self._optimisation.epochs and not self.position.stopped:
            batches = self._share_of(self._batches.order(self._generator()))
            self._model.train()
            while self.position.batch < len(batches):
                self._step(batches)
                self._checkpoint(interruption)
            self._finish_epoch()
            self._checkpoint(interruption)
        if self._best:
            self._model.load_state_dict(self._best)
        self._model.eval()

    def _generator(self) -> torch.Generator:
        """Random numbers of the current epoch, the same whether or not earlier epochs ran in this process."""
        return torch.Generator().manual_seed(self._optimisation.seed * 1_000_003 + self.position.epoch)

    def _share_of(self, batches: list[list[int]]) -> list[list[int]]:
        """This process's batches; all processes get equally many, since each step averages over them."""
        if not batches:
            raise InvalidDataError("there are no rows to train on")
        size, rank = self._accelerator.num_processes, self._accelerator.process_index
        return [batches[(index * size + rank) % len(batches)] for index in range(max(1, len(batches) // size))]

    def _step(self, batches: list[list[int]]) -> None:
        position = self.position
        self._set_learning_rate((position.epoch + (position.batch + 0.5) / len(batches)) / self._optimisation.epochs)
        batch = self._batches.collate(batches[position.batch])
        losses = self._objective({name: tensor.to(self._accelerator.device) for name, tensor in batch.items()})
        self._accelerator.backward(losses["loss"])
        clip_gradients(self._model.parameters(), GRADIENT_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad()
        position.batch += 1
        position.step += 1
        self._record(losses, len(batches))

    def _set_learning_rate(self, done: float) -> None:
        factor = learning_rate_factor(done, self._optimisation.warmup)
        for group in self._plain_optimizer.param_groups:
            group["lr"] = self._optimisation.learning_rate * factor

    def _record(self, losses: dict[str, Tensor], per_epoch: int) -> None:
        position = self.position
        for name, value in losses.items():
            position.sums[name] = position.sums.get(name, 0.0) + float(value.detach())
        position.summed += 1
        if not math.isfinite(position.sums["loss"]):
            raise ParamsError(f"the loss is not finite at step {position.step}: lower optimisation.learning_rate")
        numbers = {"loss": position.sums["loss"] / position.summed}
        left = self._optimisation.epochs - position.epoch - 1
        self._progress.update(
            "train", position.step, position.step - position.batch + per_epoch * (left + 1), "steps", **numbers
        )
        if position.batch % max(1, per_epoch // POINTS_PER_EPOCH) == 0 or position.batch == per_epoch:
            for name, total in position.sums.items():
                self._draw(name, total / position.summed)
            position.sums, position.summed = {}, 0

    def _draw(self, name: str, value: float) -> None:
        self.position.curves.setdefault(name, []).append([self.position.step, round(value, 6)])

    def _finish_epoch(self) -> None:
        self.position.epoch += 1
        self.position.batch = 0
        if self._validation is None:
            return
        self._model.eval()
        with torch.no_grad():
            metrics = self._validation.metrics()
        for name, value in metrics.items():
            self._draw(f"valid_{name}", value)
        if self._optimisation.patience is not None:
            self._judge(metrics[self._validation.score], self._optimisation.patience)

    def _judge(self, score: float, patience: int) -> None:
        """Keep the weights if they are the best so far; stop if no epoch has been better for too long."""
        position = self.position
        if position.best is None or score > position.best:
            position.best, position.best_epoch = score, position.epoch
            self._best = {name: tensor.detach().cpu().clone() for name, tensor in self._model.state_dict().items()}
        elif position.epoch - position.best_epoch >= patience:
            position.stopped = True
            self._progress.update("train", position.step, position.step, "steps")

    def _checkpoint(self, interruption: Interruption) -> None:
        due = time.monotonic() - self._saved >= self._optimisation.checkpoint_seconds
        if self._state is not None and (due or interruption.requested):
            data = pack(self._model, self._plain_optimizer, self._best, self.position, self._identity)
            self._state.write(CHECKPOINT, data)
            self._saved = time.monotonic()
        interruption.deliver()


def _identity(model: nn.Module, optimisation: Optimisation) -> str:
    """What must be equal for a checkpoint to be this run's: hyper-parameters, and names and shapes of the weights."""
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    return json.dumps([optimisation.model_dump(exclude={"checkpoint_seconds"}), shapes])
