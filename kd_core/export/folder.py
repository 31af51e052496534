"""Cuts the graph and writes the parts and the tokenizer, each with its hash, into the model's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from kd_core.config.data import TaskParams
from kd_core.export.tracing import cut, inputs_of
from kd_core.inference.all_exits import exit_layers
from kd_core.models.student import StudentModel
from kd_core.runtime import fingerprint
from kd_core.runtime.errors import ParamsError
from kd_core.serving.folder.network import (
    FOLDER,
    IDS,
    TYPES,
    File,
    Network,
    Precision,
    Segment,
    Tokenization,
    hidden_name,
    probabilities_name,
)

_TOKENIZER = f"{FOLDER}/tokenizer.json"
_WHOLE = f"{FOLDER}/whole.onnx"


def check_tokenizer(tokenizer: Any) -> None:
    """Raises ParamsError for a tokenizer that the library `tokenizers` cannot run."""
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ParamsError(f"student.base: its tokenizer {type(tokenizer).__name__} has no tokenizer.json; take another")


def write_graphs(
    graph: onnx.ModelProto, model: StudentModel, tokenizer: Any, task: TaskParams, precision: Precision, folder: Path
) -> Network:
    """Write the graph of all exits, in segments and as a whole, and the tokenizer into the model's folder.

    Raises ParamsError for graphs that are too large.
    """
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    exits, takes = exit_layers(model), inputs_of(model, tokenizer)
    whole = _write(cut(graph, takes, [probabilities_name(exits[-1])]), _WHOLE, folder)
    return Network(
        task=task,
        hidden=model.encoder.config.hidden_size,
        exits=exits,
        precision=precision,
        tokenization=_write_tokenizer(tokenizer, task, TYPES in takes, folder),
        segments=tuple(_write_segments(graph, exits, takes, folder)) if len(exits) > 1 else (_only(whole, exits[0]),),
        whole=whole,
    )


def hashed(name: str, folder: Path) -> File:
    """A file of the model's folder, with its hash."""
    return File(file=name, sha256=fingerprint.of_file(folder / name))


def _only(whole: File, last: int) -> Segment:
    """The segment of a student with one exit: the whole graph, which need not be written twice."""
    return Segment(first=min(last, 1), last=last, file=whole.file, sha256=whole.sha256)


def _write_segments(graph: onnx.ModelProto, exits: Sequence[int], takes: Sequence[str], folder: Path) -> list[Segment]:
    found = []
    for before, last in zip((0, *exits[:-1]), exits, strict=True):
        inputs = takes if before == 0 else [hidden_name(before), *(name for name in takes if name not in (IDS, TYPES))]
        outputs = [probabilities_name(last), *([] if last == exits[-1] else [hidden_name(last)])]
        written = _write(cut(graph, inputs, outputs), f"{FOLDER}/layers_{before + 1}_{last}.onnx", folder)
        found.append(Segment(first=before + 1, last=last, file=written.file, sha256=written.sha256))
    return found


def _write(graph: onnx.ModelProto, name: str, folder: Path) -> File:
    if graph.ByteSize() > onnx.checker.MAXIMUM_PROTOBUF:
        raise ParamsError(f"student: {name} would be {graph.ByteSize() / 1e9:.1f} GB, and ONNX files end at 2 GB")
    (folder / name).write_bytes(graph.SerializeToString(deterministic=True))
    return hashed(name, folder)


def _write_tokenizer(tokenizer: Any, task: TaskParams, token_types: bool, folder: Path) -> Tokenization:
    backend = tokenizer.backend_tokenizer
    truncation, padding = backend.truncation, backend.padding
    backend.no_truncation()  # the lengths of the last call are no part of the tokenizer
    backend.no_padding()
    backend.save(str(folder / _TOKENIZER))
    if truncation:
        backend.enable_truncation(**truncation)
    if padding:
        backend.enable_padding(**padding)
    written = hashed(_TOKENIZER, folder)
    return Tokenization(
        file=written.file,
        sha256=written.sha256,
        max_length=min(task.max_length, tokenizer.model_max_length),
        truncation_side=tokenizer.truncation_side,
        pad_id=tokenizer.pad_token_id,
        token_types=token_types,
    )
