"""A tiny student, teachers and runs that the tests of the training stages share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kd_core.config.data import TaskParams
from kd_core.config.training import Optimisation
from kd_core.models.student import StudentModel
from kd_core.models.student_config import StudentConfig
from kd_core.models.teacher import Teacher
from kd_core.runtime.progress import Progress
from tests.code.tiny import LABELS, tiny_config, tiny_tokenizer

TASK = TaskParams(kind="classification", labels=LABELS, max_length=16)
PROGRESS = Progress("test")


def encoder_config(model_type: str = "bert", hidden: int = 16, layers: int = 2, heads: int = 4) -> dict[str, Any]:
    """`model_type`: a name in `tests.code.tiny.ARCHITECTURES`."""
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
