"""Self-attention distillation needs little memory beside the training that it joins.

At 32 texts of 128 tokens, by counting the bytes of tensors, so that the machine plays no part. The measure of the first
test is what autograd keeps for the backward pass (torch.autograd.graph.saved_tensors_hooks); of the second the peak of
all tensors alive in a step, forward and backward, with weights, gradients and AdamW's moments of the student. The live
teacher's own weights count where the student has copies of its layers; to the default student's training, which is
small beside them, they come on top.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForSequenceClassification

from kd_core.config.training import AttentionDistillation
from kd_core.distill.attention import AttentionDistiller
from kd_core.distill.pretrain import multi_teacher_loss, with_attention
from kd_core.models.student import StudentModel
from kd_core.models.student_config import StudentConfig
from kd_core.tasks.units import UNIT_MASK
from kd_core.teachers.model import Teacher
from tests.helpers.distilling import KL, pretrain_params, tiny_teacher
from tests.helpers.tiny import LABELS

MOST = 1.2
"""Times the memory of training without."""

DEFAULT = {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 512}
WIDE = {"num_hidden_layers": 3, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
TEACHER = {"num_hidden_layers": 1, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}

MINILM_BYTES = 4 * 22_700_000
"""Of the packaged MiniLM-L6's weights."""

Step = Callable[[], Tensor]


def student_of(sizes: dict[str, int], vocabulary: int) -> StudentModel:
    encoder = {"model_type": "bert", "vocab_size": vocabulary, **sizes}
    decoders = {"a": list(LABELS), "b": list(LABELS)}
    return StudentModel(StudentConfig(encoder=encoder, decoders=decoders, labels=list(LABELS))).train()


def live_teacher() -> Teacher:
    """As wide as the packaged MiniLM; under `no_grad` further layers add nothing to the peak."""
    teacher = tiny_teacher()
    config = AutoConfig.for_model("bert", vocab_size=1000, num_labels=len(LABELS), **TEACHER)
    teacher.model = AutoModelForSequenceClassification.from_config(config).eval()
    return teacher


def step_of(student: StudentModel, heads: int | None, stack: ExitStack) -> Step:
    """The pre-training loss of a batch, with self-attention distillation if `heads` is given."""
    ids = torch.randint(5, 1000, (32, 128), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), UNIT_MASK: torch.ones(32, 1, dtype=torch.bool)}
    batch |= {f"scores:{name}": torch.zeros(32, 1, len(LABELS)) for name in ("a", "b")}
    loss = multi_teacher_loss(["a", "b"], KL)
    if heads is not None:
        live, params = live_teacher(), pretrain_params(attention=AttentionDistillation(relation_heads=heads))
        distiller = stack.enter_context(AttentionDistiller(live.model, student.encoder, params.attention))
        loss = with_attention(loss, live, distiller, params)
    return lambda: loss(student, batch)["loss"]


def kept_bytes(student: nn.Module, step: Step) -> int:
    """Bytes of what autograd keeps between forward and backward, beside the weights."""
    weights = {parameter.untyped_storage()._cdata for parameter in student.parameters()}
    kept: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(storage.nbytes() for address, storage in kept.items() if address not in weights)


class Allocated(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make while it is entered, until they are gone."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {address for address, _ in storages((args, kwargs))}
        result = function(*args, **(kwargs or {}))
        for address, storage in storages(result):
            if address not in given and address not in self.alive:  # views of weights are not new
                self.alive[address] = storage.nbytes()
                weakref.finalize(storage, self.alive.pop, address, None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


def storages(values: Any) -> list[tuple[int, Any]]:
    found = [value.untyped_storage() for value in tree_leaves(values) if isinstance(value, Tensor)]
    return [(storage._cdata, storage) for storage in found]


def peak_bytes(student: nn.Module, step: Step) -> int:
    """The most that is alive in a step, with the student's weights and AdamW's two moments."""
    weights = sum(parameter.untyped_storage().nbytes() for parameter in student.parameters())
    with Allocated() as allocated:
        step().backward()
    return 3 * weights + allocated.peak


@pytest.mark.parametrize(("sizes", "heads"), [(DEFAULT, 4), (DEFAULT, 16), (WIDE, 12)])
def test_little_is_kept_for_the_backward_pass(sizes: dict[str, int], heads: int) -> None:
    student = student_of(sizes, vocabulary=1000)
    with ExitStack() as stack:
        without, with_it = (kept_bytes(student, step_of(student, wanted, stack)) for wanted in (None, heads))
    assert 32 * 128 * sizes["hidden_size"] * 4 < without < with_it <= MOST * without


@pytest.mark.parametrize(("sizes", "heads", "teacher"), [(DEFAULT, 16, 0), (WIDE, 12, MINILM_BYTES)])
def test_the_peak_of_a_step_stays_low(sizes: dict[str, int], heads: int, teacher: int) -> None:
    """With the vocabulary of the packaged MiniLM, and `teacher` bytes for the live teacher's weights."""
    peaks = []
    for wanted in (None, heads):
        student = student_of(sizes, vocabulary=30522)
        with ExitStack() as stack:
            peaks.append(peak_bytes(student, step_of(student, wanted, stack)))
    assert 150e6 < peaks[0] < peaks[1] + teacher <= MOST * peaks[0], peaks
