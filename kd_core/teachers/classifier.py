"""The classifier in a teacher's folder: one of Hugging Face's, or a student that this project distilled.

So last week's champion can teach this week's student: as it is, or fine-tuned again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from kd_core.config.data import Kind
from kd_core.models.kinds import kind_of, name_kind
from kd_core.models.loading import load_classifier
from kd_core.models.student import StudentModel
from kd_core.models.student_config import StudentConfig
from kd_core.runtime.errors import InvalidDataError
from kd_core.tasks import heads
from kd_core.tasks.heads.modules import GOLD


def load(folder: Path, kind: Kind | None = None, fresh_labels: Sequence[str] | None = None) -> PreTrainedModel:
    """The classifier in `folder`, fp32, in eval mode; `kind` is that of its task (None: as its config says).

    With `fresh_labels` a new classifier of these outputs, random (torch's global generator), is put on the encoder,
    whatever the folder has; without, one must be there. A student answers with all of its layers: `.logits` are the
    logarithms of its combined answer (multi-label: log-odds). Raises InvalidDataError naming files or weights
    that are missing or damaged.
    """
    config = _config(folder)
    kind = kind or kind_of(config)
    if config.model_type != StudentConfig.model_type:
        outputs = None if fresh_labels is None else len(fresh_labels)
        return load_classifier(folder, outputs, heads.of(kind).AUTO_CLASS)
    student = StudentModel.from_pretrained(folder)
    if fresh_labels is None:
        _drop_what_has_no_say(student)
    else:
        seed = int(torch.randint(1 << 31, ()))
        student.replace_decoders({GOLD: fresh_labels}, fresh_labels, combine="gold", kind=kind, seed=seed)
    return student


def problem_type(model: PreTrainedModel) -> str | None:
    """What the config says that the logits stand for, in Hugging Face's words; None where it does not say.

    A student's always says: it is a classifier unless its config names another kind.
    """
    config = model.config
    return heads.of(config.kind).PROBLEM_TYPE if isinstance(config, StudentConfig) else config.problem_type


def name_outputs(model: PreTrainedModel, labels: Sequence[str], kind: Kind) -> None:
    """Write our labels, in the order of the model's outputs, and what these stand for into the config."""
    config = model.config
    if isinstance(config, StudentConfig):
        config.decoders = {name: list(labels) for name in config.decoders or {}}
        config.labels = list(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    name_kind(config, kind)


def _config(folder: Path) -> SimpleNamespace:
    """What config.json says of the model and of its task."""
    try:
        config, _ = PreTrainedConfig.get_config_dict(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InvalidDataError(f"{folder}: no readable config.json: {error}") from None
    return SimpleNamespace(**{name: config.get(name) for name in ("model_type", "problem_type", "kd_kind")})


def _drop_what_has_no_say(student: StudentModel) -> None:
    """Branches, and decoders for other labels or another kind of task, are no part of the full model's answer."""
    config = student.config
    asked = {name: owned for name, owned in (config.decoders or {}).items() if student.has_say(name)}
    for name in set(student.decoders) - set(asked):
        del student.decoders[name]
    config.decoders, config.decoder_kinds = asked, None
    config.branches, student.branches = None, nn.ModuleDict()
