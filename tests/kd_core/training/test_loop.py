"""The training loop: resume is exact after any kind of end, patience keeps the best epoch, biases are not decayed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kd_core.config.training import Optimisation
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.runtime.progress import Progress
from kd_core.runtime.storage import Storage
from kd_core.training.loop import CHECKPOINT, Batches, Validation, train
from kd_core.training.optimizer import learning_rate_factor, new_optimizer
from kd_core.training.work import Work

ROWS = 64


def work(state: Storage | None = None) -> Work:
    return Work(None, Progress("test"), state)


def new_model() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Dropout(0.3), nn.Linear(8, 3))


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(ROWS, 6, generator=generator)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def batches() -> Batches:
    x, y = data()

    def order(generator: torch.Generator) -> list[list[int]]:
        return [part.tolist() for part in torch.randperm(ROWS, generator=generator).split(8)]

    return Batches(order, lambda rows: {"x": x[rows], "y": y[rows]})


def loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"loss": nn.functional.cross_entropy(model(batch["x"]), batch["y"])}


def validation(model: nn.Module) -> Validation:
    x, y = data()
    return Validation(lambda: {"accuracy": float((model(x).argmax(1) == y).float().mean())}, "accuracy")


def optimisation(**changes: object) -> Optimisation:
    return Optimisation.model_validate(
        {"epochs": 3, "learning_rate": 0.02, "checkpoint_seconds": 1e-9, "patience": 2} | changes
    )


def run(state: Storage | None, fail_at: int | None = None, slow: float = 0.0) -> tuple[dict[str, Tensor], object]:
    """Weights and curves of a whole training; `fail_at`: raise at that step of this process."""
    model, steps = new_model(), 0

    def counted(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        nonlocal steps
        steps += 1
        time.sleep(slow)
        if steps == fail_at:
            raise RuntimeError("power cut")
        return loss(model, batch)

    curves = train(model, counted, batches(), optimisation(), work(state), validation(model))
    return model.state_dict(), curves


def assert_equal(one: tuple[dict[str, Tensor], object], other: tuple[dict[str, Tensor], object]) -> None:
    assert one[0].keys() == other[0].keys()
    for name in one[0]:
        assert torch.equal(one[0][name], other[0][name]), name
    assert one[1] == other[1]


@pytest.mark.parametrize("fail_at", [1, 2, 8, 9, 17, 24])
def test_resumed_after_an_exception_ends_with_the_same_bits(tmp_path: Path, fail_at: int) -> None:
    state = Storage(tmp_path)
    with pytest.raises(RuntimeError, match="power cut"):
        run(state, fail_at)
    torch.manual_seed(99)  # whatever else the new process did with random numbers
    assert_equal(run(state), run(None))


def test_resume_does_not_repeat_finished_steps(tmp_path: Path) -> None:
    state = Storage(tmp_path)
    with pytest.raises(RuntimeError):
        run(state, fail_at=20)
    with pytest.raises(RuntimeError):
        run(state, fail_at=5)  # steps 20 to 24 are left: the fifth is the last
    with pytest.raises(RuntimeError):
        run(state, fail_at=1)


CHILD = "import test_loop as t; from kd_core.runtime.storage import Storage; t.run(Storage({!r}), slow=0.05)"


def start_child(state: Path) -> subprocess.Popen[bytes]:
    """A training in a process of its own, returned once it has saved something."""
    here = Path(__file__).resolve()
    environment = os.environ | {"PYTHONPATH": f"{here.parents[3]}:{here.parent}", "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen([sys.executable, "-c", CHILD.format(str(state))], env=environment)
    while not (state / CHECKPOINT).exists():
        assert child.poll() is None, "the training ended before it was killed"
        time.sleep(0.05)
    return child


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_resumed_after_a_signal_ends_with_the_same_bits(tmp_path: Path, signum: signal.Signals) -> None:
    child = start_child(tmp_path)
    child.send_signal(signum)
    assert child.wait(30) == (-signal.SIGKILL if signum == signal.SIGKILL else 143)
    assert_equal(run(Storage(tmp_path)), run(None))


def test_sigterm_saves_even_if_no_checkpoint_is_due(tmp_path: Path) -> None:
    def terminating(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        os.kill(os.getpid(), signal.SIGTERM)
        return loss(model, batch)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        train(new_model(), terminating, batches(), optimisation(checkpoint_seconds=3600), work(Storage(tmp_path)),
              validation(new_model()))  # fmt: skip
    assert end.value.code == 143
    assert (tmp_path / CHECKPOINT).exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_checkpoint_of_another_run_is_not_taken_up(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        run(Storage(tmp_path), fail_at=10)
    model, fresh = new_model(), new_model()
    changed = optimisation(learning_rate=0.01)
    train(model, loss, batches(), changed, work(Storage(tmp_path)), validation(model))
    train(fresh, loss, batches(), changed, work(), validation(fresh))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), fresh.parameters(), strict=True))


def test_patience_stops_and_keeps_the_best_epoch() -> None:
    model, scores, seen = new_model(), iter([0.1, 0.5, 0.4, 0.3, 0.9]), []

    def metrics() -> dict[str, float]:
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"accuracy": next(scores)}

    curves = train(model, loss, batches(), optimisation(epochs=5), work(), Validation(metrics, "accuracy"))
    assert [value for _, value in curves["valid_accuracy"]] == [0.1, 0.5, 0.4, 0.3]
    assert all(torch.equal(tensor, seen[1][name]) for name, tensor in model.state_dict().items())
    assert any(not torch.equal(tensor, seen[3][name]) for name, tensor in model.state_dict().items())


def test_without_patience_all_epochs_run_and_the_last_is_kept() -> None:
    model, scores, seen = new_model(), iter([0.9, 0.1, 0.1]), []

    def metrics() -> dict[str, float]:
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"accuracy": next(scores)}

    train(model, loss, batches(), optimisation(patience=None), work(), Validation(metrics, "accuracy"))
    assert all(torch.equal(tensor, seen[2][name]) for name, tensor in model.state_dict().items())


def test_wrong_use_is_explained() -> None:
    with pytest.raises(ParamsError, match="patience"):
        train(new_model(), loss, batches(), optimisation(), work())
    empty = Batches(lambda generator: [], lambda rows: {})
    with pytest.raises(InvalidDataError, match="no rows"):
        train(new_model(), loss, empty, optimisation(patience=None), work())
    with pytest.raises(ParamsError, match="not finite"):
        train(new_model(), lambda m, b: {"loss": loss(m, b)["loss"] * float("nan")}, batches(),
              optimisation(patience=None), work())  # fmt: skip


def test_curves_hold_every_loss_and_no_times() -> None:
    _, curves = run(None)
    assert set(curves) == {"loss", "valid_accuracy"}
    assert [step for step, _ in curves["loss"]] == list(range(1, 25))
    assert run(None)[1] == curves


def test_biases_and_norms_are_not_decayed() -> None:
    model = new_model()
    decayed, plain = new_optimizer(model, optimisation(weight_decay=0.1)).param_groups
    assert decayed["weight_decay"] == 0.1
    assert plain["weight_decay"] == 0.0
    assert {id(p) for p in decayed["params"]} == {id(model[0].weight), id(model[3].weight)}


def test_frozen_parameters_stay_out_of_the_optimizer() -> None:
    model = new_model()
    model[0].requires_grad_(False)
    held = {id(p) for group in new_optimizer(model, optimisation()).param_groups for p in group["params"]}
    assert not held & {id(p) for p in model[0].parameters()}


def test_learning_rate_rises_then_falls() -> None:
    assert learning_rate_factor(0.05, 0.1) == pytest.approx(0.5)
    assert learning_rate_factor(0.1, 0.1) == pytest.approx(1.0)
    assert learning_rate_factor(0.55, 0.1) == pytest.approx(0.5)
    assert learning_rate_factor(0.0, 0.0) == 1.0
    assert learning_rate_factor(0.5, 1.0) == 0.5


def test_bf16_autocast_reaches_the_loss() -> None:
    seen = []

    def watching(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(model[0](batch["x"]).dtype)
        return loss(model, batch)

    train(new_model(), watching, batches(), optimisation(patience=None, epochs=1, precision="bf16"), work())
    assert set(seen) == {torch.bfloat16}


def test_trains_with_the_threads_that_are_asked_for() -> None:
    before, seen = torch.get_num_threads(), set()

    def noting(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.add(torch.get_num_threads())
        return loss(model, batch)

    torch.set_num_threads(2)
    try:
        for threads in (1, None):
            model = new_model()
            train(
                model,
                noting,
                batches(),
                optimisation(threads=threads, epochs=1),
                work(),
                validation(model),
            )
            assert seen == {threads or 2}
            assert torch.get_num_threads() == 2, "as before"
            seen.clear()
    finally:
        torch.set_num_threads(before)
