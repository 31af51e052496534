"""A tiny student, teachers, batches and params that the tests of the training stages share."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from kd_core.config.data import TaskParams
from kd_core.config.training import Distillation, Optimisation, PretrainParams
from kd_core.inference.batches import collate, encode
from kd_core.models.student import StudentModel
from kd_core.models.student_config import StudentConfig
from kd_core.runtime.progress import Progress
from kd_core.teachers.model import Teacher
from tests.helpers.one_unit import targets_of
from tests.helpers.tiny import LABELS, tiny_config, tiny_tokenizer

TASK = TaskParams(kind="classification", labels=LABELS, max_length=16)
PROGRESS = Progress("test")
TOKENIZER = tiny_tokenizer()
KL = Distillation(divergence="kl", temperature=2.0)


def encoder_config(model_type: str = "bert", hidden: int = 16, layers: int = 2, heads: int = 4) -> dict[str, Any]:
    """`model_type`: a name in `tests.helpers.tiny.ARCHITECTURES`."""
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    config = tiny_config(
        model_type, vocab_size=len(tiny_tokenizer()), max_position_embeddings=40, intermediate_size=2 * hidden, **sizes
    )
    return {key: value for key, value in config.to_dict().items() if key not in ("id2label", "label2id")}


def tiny_student(
    decoders: dict[str, list[str]] | None = None, dropout: float = 0.1, seed: int = 0, **encoder: Any
) -> StudentModel:
    torch.manual_seed(seed)
    labels = list(LABELS)
    config = StudentConfig(
        encoder=encoder_config(**encoder), decoders=decoders or {"gold": labels}, labels=labels, dropout=dropout
    )
    return StudentModel(config)


def tiny_teacher(name: str = "big", seed: int = 1, tokenizer: Any = None, **encoder: Any) -> Teacher:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(seed)
    values = encoder_config(**({"hidden": 32, "layers": 3} | encoder))
    config = AutoConfig.for_model(values.pop("model_type"), **values, num_labels=len(LABELS))
    return Teacher(
        name=name,
        model=AutoModelForSequenceClassification.from_config(config).eval(),
        tokenizer=tokenizer or tiny_tokenizer(),
        labels=LABELS,
        label_order=tuple(range(len(LABELS))),
        pair=False,
        max_length=16,
        precision="fp32",
        data="reference",
        weights="none",
    )


def optimisation(**changes: Any) -> Optimisation:
    return Optimisation.model_validate({"epochs": 2, "learning_rate": 0.005, "batch_tokens": 128} | changes)


def copy_of(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(module: torch.nn.Module, before: dict[str, Tensor]) -> bool:
    after = module.state_dict()
    return after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


def scores_for(rows: pd.DataFrame, classes: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(len(rows), classes, generator=torch.Generator().manual_seed(seed))


def batch_of(rows: pd.DataFrame, **scores: Tensor) -> dict[str, Tensor]:
    encoded = encode(rows, TOKENIZER, TASK)
    batch = collate(encoded, range(len(rows)), TOKENIZER.pad_token_id) | {"targets": targets_of(encoded).unsqueeze(1)}
    return batch | {f"scores:{name}": logits.unsqueeze(1) for name, logits in scores.items()}


def gradient(module: torch.nn.Module) -> float:
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


def moved(model: torch.nn.Module, before: dict[str, Tensor]) -> set[str]:
    """Parts (two levels of names) of which some weight differs from `before`."""
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    return {".".join(name.split(".")[:2]) for name in changed}


def pretrain_params(**changes: Any) -> PretrainParams:
    return PretrainParams(teachers=("a", "b"), optimisation=optimisation(), distillation=KL, **changes)


def target_student(**options: Any) -> Any:
    return tiny_student({"gold": list(LABELS), "a": list(LABELS)}, **options)


def reference_divergence(teacher: list[Tensor], student: list[Tensor], lengths: list[int], heads: int) -> float:
    """The formula by loops over samples, heads and query positions, on unpadded slices only."""
    total, count = 0.0, 0
    for sample, length in enumerate(lengths):
        for head in range(heads):
            rows = []
            for one, other in (teacher, student):
                width = one.shape[-1] // heads
                part = slice(head * width, (head + 1) * width)
                x, y = one[sample, :length, part], other[sample, :length, part]
                rows.append(torch.softmax(x @ y.T / math.sqrt(width), dim=-1))
            for position in range(length):
                p, q = rows[0][position], rows[1][position]
                total += float((p * (p / q).log()).sum())
                count += 1
    return total / count


def random_batch(lengths: list[int], width: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids, mask = torch.zeros(len(lengths), width, dtype=torch.long), torch.zeros(len(lengths), width, dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(5, 40, (length,), generator=generator)
        mask[row, :length] = 1
    return {"input_ids": ids, "attention_mask": mask}
