"""A new student, as `student` in the params describes it, out of its base: which layers, which embeddings."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from kd_core.config.data import Kind
from kd_core.config.student import StudentParams
from kd_core.models import layers
from kd_core.models.architectures import architecture_of
from kd_core.models.embeddings import reduced_embeddings, token_vectors
from kd_core.models.kinds import name_kind
from kd_core.models.loading import load_encoder
from kd_core.models.static_encoder import StaticConfig, first_weights
from kd_core.models.student import StudentModel, fixed_seed
from kd_core.models.student_config import StudentConfig
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.tasks import encode

Made = tuple[PreTrainedConfig, dict[str, Tensor]]
"""An encoder's config, and the weights that are not drawn by chance."""


def new_student(
    params: StudentParams,
    decoders: Mapping[str, Sequence[str]],
    labels: Sequence[str],
    base_folder: Path,
    kind: Kind,
    decoder_kinds: Mapping[str, Kind] | None = None,
) -> StudentModel:
    """An untrained student with these decoders (name → labels), of the base's architecture and vocabulary.

    `kind` is that of the task, and of every decoder that `decoder_kinds` does not name.
    `params.layers` a number: fresh layers, the base's word embeddings reduced to `hidden` by PCA, everything else
    initialised as the architecture prescribes; 0: a static encoder. A list: the base's embeddings and copies of these
    layers. Everything random comes from `params.seed`. Raises ParamsError for sizes that do not fit the base, and for a
    base whose layers cannot be stepped.
    """
    if params.layers == 0:
        _check_whole_texts({kind, *(decoder_kinds or {}).values()})
    base = load_encoder(base_folder)
    make = _copied if isinstance(params.layers, tuple) else _fresh if params.layers else _static
    structure, weights = make(params, base)
    config = StudentConfig(
        encoder=_encoder_config(params, structure),
        decoders={name: list(owned) for name, owned in decoders.items()},
        labels=list(labels),
        decoder_kinds={name: own for name, own in (decoder_kinds or {}).items() if own != kind},
        pooling=params.pooling if params.layers else "cls",  # a static encoder gives one state a text
        combine=params.combine,
        dropout=params.dropout,
    )
    name_kind(config, kind)
    with fixed_seed(params.seed):
        student = StudentModel(config)
    unused = student.encoder.load_state_dict(weights, strict=False).unexpected_keys
    if any("pooler" not in key for key in unused):
        raise InvalidDataError(f"{base_folder}: weights that a student has no place for: {', '.join(unused)}")
    return student


def _copied(params: StudentParams, base: PreTrainedModel) -> Made:
    layers.keep_layers(base, cast(tuple[int, ...], params.layers))
    return copy.deepcopy(base.config), base.state_dict()


def _fresh(params: StudentParams, base: PreTrainedModel) -> Made:
    structure = _resized(params, base.config)
    architecture_of(base.config).resize(structure, cast(int, params.layers))
    return structure, reduced_embeddings(base, getattr(structure, "embedding_size", structure.hidden_size))


def _static(params: StudentParams, base: PreTrainedModel) -> Made:
    table = token_vectors(base, params.hidden or base.config.hidden_size)
    structure = StaticConfig(
        vocab_size=len(table),
        hidden_size=table.shape[1],
        intermediate_size=params.intermediate or 4 * table.shape[1],
        bigrams=params.bigrams,
    )
    return structure, first_weights(table, params.bigrams)


def _check_whole_texts(kinds: set[Kind]) -> None:
    """Raises ParamsError for kinds of tasks that ask of parts of a text."""
    if parts := sorted(kind for kind in kinds if encode.of(kind).FEATURES):
        raise ParamsError(f"student.layers: 0 answers whole texts only, and {parts[0]!r} asks of parts; take layers")


_NOT_STRUCTURE = ("_name_or_path", "architectures", "id2label", "label2id", "problem_type", "transformers_version")


def _resized(params: StudentParams, base: PreTrainedConfig) -> PreTrainedConfig:
    """The base's config with the widths that `params` give; embeddings are never wider than the base's."""
    config = copy.deepcopy(base)
    hidden, heads = params.hidden or base.hidden_size, params.heads or base.num_attention_heads
    if hidden % heads:
        raise ParamsError(f"student.hidden {hidden} is no multiple of student.heads {heads}")
    config.hidden_size, config.num_attention_heads = hidden, heads
    _set_known(config, params.intermediate or 4 * hidden, "intermediate_size", "hidden_dim")
    if hasattr(config, "embedding_size"):  # ELECTRA, ALBERT: narrower than the layers
        config.embedding_size = min(hidden, base.embedding_size)
    _set_known(config, hidden // heads, "attention_head_size")
    _set_known(config, hidden, "pooler_hidden_size")
    return config


_DROPOUTS = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "embedding_dropout",
    "mlp_dropout",
)  # fmt: skip


def _encoder_config(params: StudentParams, structure: PreTrainedConfig) -> dict[str, Any]:
    _set_known(structure, params.dropout, *_DROPOUTS)
    return {key: value for key, value in structure.to_dict().items() if key not in _NOT_STRUCTURE}


def _set_known(config: PreTrainedConfig, value: float, *names: str) -> None:
    for name in names:
        if hasattr(config, name):
            setattr(config, name, value)
