"""What computes a teacher's answers: PyTorch, or ONNX Runtime where that is measured to be faster here.

On a CPU each thread computes batches of its own: handing the pieces of one batch to several threads costs more than
having a whole batch a thread.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor, nn

from kd_core.models.onnx_program import Axes, onnx_program
from kd_core.runtime.cpu import open_session, usable_threads
from kd_core.tasks import heads
from kd_core.teachers.model import Teacher

Batch = Mapping[str, Tensor]
Engine = Callable[[Batch], Tensor]
"""A batch's logits [B, U, C] in fp32 on the CPU, in the order of the teacher's labels; many threads may ask at once."""

SAME = 1e-4
"""Probabilities of another engine may differ by so much."""

_EXAMPLE = (3, 7)
"""Texts and tokens of what a teacher is traced with; both are dynamic."""

logger = logging.getLogger(__name__)


def in_pytorch(teacher: Teacher) -> Engine:
    """The teacher as it is, on the device where it is, in its precision."""
    model = teacher.model.eval()

    @torch.inference_mode()
    def answer(batch: Batch) -> Tensor:
        return teacher.logits({name: tensor.to(model.device) for name, tensor in batch.items()}).cpu()

    return answer


def in_onnxruntime(teacher: Teacher) -> Engine:
    """The teacher as a graph on the CPU in fp32. Raises ParamsError or InvalidDataError where it cannot be one."""
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(export(teacher, Path(folder) / "teacher.onnx"))
    taken = [each.name for each in session.get_inputs()]

    def answer(batch: Batch) -> Tensor:
        (logits,) = session.run(None, {name: batch[name].numpy() for name in taken})
        return teacher.in_our_order(torch.from_numpy(logits), batch)

    return answer


def export(teacher: Teacher, path: Path) -> Path:
    """Write the teacher as a graph from its tokenizer's tensors [B, L] to `logits` in its own labels' order.

    Raises ParamsError if PyTorch's exporter cannot.
    """
    axes: Axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    types = ["token_type_ids"] if "token_type_ids" in teacher.tokenizer.model_input_names else []
    example = {name: torch.ones(_EXAMPLE, dtype=torch.long) for name in ("input_ids", "attention_mask", *types)}
    program = onnx_program(
        f"teacher {teacher.name}", _Logits(teacher.model), example, dict.fromkeys(example, axes), ["logits"]
    )
    program.save(path, external_data=True)  # one file of ONNX holds 2 GB
    return path


class _Logits(nn.Module):
    """A teacher's own logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        """As transformers' model gives them."""
        logits: Tensor = self.model(**batch).logits
        return logits


def answers(engine: Engine, batches: Iterable[Batch], device: str) -> Iterator[Tensor]:
    """The logits of each batch, in order; on a CPU as many are computed at once as there are threads."""
    if device != "cpu":
        yield from map(engine, batches)
        return
    threads, before = usable_threads(), torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, "score", initializer=torch.set_num_threads, initargs=(1,))
    pending: deque[Future[Tensor]] = deque()
    try:
        for batch in batches:
            pending.append(pool.submit(engine, batch))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def faster(teacher: Teacher, batches: Sequence[Batch]) -> Engine:
    """PyTorch, unless ONNX Runtime gives the same answers to `batches` in less time.

    Batches should be like those to come, several for each thread. What was found goes to the log.
    """
    plain = in_pytorch(teacher)
    if teacher.model.device.type != "cpu" or teacher.precision != "fp32":
        return plain
    here = _timed(teacher, plain, batches)
    try:
        exported = in_onnxruntime(teacher)
        there = _timed(teacher, exported, batches)
    except Exception as error:  # whatever exporter or onnxruntime stumble over, what they have in common is this
        logger.info("PyTorch goes on: %s", error)
        return plain
    apart = float((here[1] - there[1]).abs().max())
    logger.info(
        "teacher %s: %d batches took %.1f s in PyTorch, %.1f s in ONNX Runtime, probabilities %.0e apart",
        *(teacher.name, len(batches), here[0], there[0], apart),
    )
    return exported if there[0] < here[0] and apart <= SAME else plain


def _timed(teacher: Teacher, engine: Engine, batches: Sequence[Batch]) -> tuple[float, Tensor]:
    """Seconds, once it is warm, and the probabilities of all units."""
    engine(batches[0])
    began = time.perf_counter()
    found = [logits.flatten(0, 1) for logits in answers(engine, batches, "cpu")]
    return time.perf_counter() - began, heads.of(teacher.kind).probabilities(torch.cat(found))
