"""The ONNX folder: the graphs cut and written, the tokenizer, and the manifest that names them with their hashes."""

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
from kd_core.serving.folder import profile as profiles
from kd_core.serving.folder.manifest import (
    IDS,
    TYPES,
    File,
    Manifest,
    Precision,
    Segment,
    Tokenization,
    hidden_name,
    probabilities_name,
)
from kd_core.serving.folder.profile import Profile

_TOKENIZER = "tokenizer.json"
_WHOLE = "whole.onnx"


def check_tokenizer(tokenizer: Any) -> None:
    """Raises ParamsError for a tokenizer that the library `tokenizers` cannot run."""
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ParamsError(f"student.base: its tokenizer {type(tokenizer).__name__} has no tokenizer.json; take another")


def write_graphs(
    graph: onnx.ModelProto, model: StudentModel, tokenizer: Any, task: TaskParams, precision: Precision, folder: Path
) -> Manifest:
    """Write the graph of all exits in segments and whole, and the tokenizer; a manifest without thresholds and profile.

    It is enough to ask every exit; `finish` completes it. Raises ParamsError for graphs that are too large.
    """
    folder.mkdir(parents=True, exist_ok=True)
    exits, takes = exit_layers(model), inputs_of(model, tokenizer)
    return Manifest(
        kind=task.kind,
        labels=task.labels,
        pair=task.pair,
        hidden=model.encoder.config.hidden_size,
        exits=exits,
        thresholds=(0.0,) * (len(exits) - 1),
        precision=precision,
        tokenization=_write_tokenizer(tokenizer, task, TYPES in takes, folder),
        segments=tuple(_write_segments(graph, exits, takes, folder)),
        whole=_write(cut(graph, takes, [probabilities_name(exits[-1])]), folder / _WHOLE),
        profile=File(file=profiles.NAME, sha256=""),
    )


def finish(manifest: Manifest, profile: Profile, thresholds: Sequence[float], folder: Path) -> Manifest:
    """Write the profile and the manifest, which is then complete."""
    profile.write(folder)
    written = _file(folder / profiles.NAME)
    complete = manifest.model_copy(update={"profile": written, "thresholds": tuple(thresholds)})
    complete.write(folder)
    return complete


def _write_segments(graph: onnx.ModelProto, exits: Sequence[int], takes: Sequence[str], folder: Path) -> list[Segment]:
    found = []
    for before, last in zip((0, *exits[:-1]), exits, strict=True):
        inputs = takes if before == 0 else [hidden_name(before), *(name for name in takes if name not in (IDS, TYPES))]
        outputs = [probabilities_name(last), *([] if last == exits[-1] else [hidden_name(last)])]
        written = _write(cut(graph, inputs, outputs), folder / f"layers_{before + 1}_{last}.onnx")
        found.append(Segment(first=before + 1, last=last, file=written.file, sha256=written.sha256))
    return found


def _write(graph: onnx.ModelProto, path: Path) -> File:
    if graph.ByteSize() > onnx.checker.MAXIMUM_PROTOBUF:
        raise ParamsError(f"student: {path.name} would be {graph.ByteSize() / 1e9:.1f} GB, and ONNX files end at 2 GB")
    path.write_bytes(graph.SerializeToString(deterministic=True))
    return _file(path)


def _write_tokenizer(tokenizer: Any, task: TaskParams, token_types: bool, folder: Path) -> Tokenization:
    backend = tokenizer.backend_tokenizer
    truncation, padding = backend.truncation, backend.padding
    backend.no_truncation()  # what the last call cut and padded to is no part of the tokenizer
    backend.no_padding()
    backend.save(str(folder / _TOKENIZER))
    if truncation:
        backend.enable_truncation(**truncation)
    if padding:
        backend.enable_padding(**padding)
    written = _file(folder / _TOKENIZER)
    return Tokenization(
        file=written.file,
        sha256=written.sha256,
        max_length=min(task.max_length, tokenizer.model_max_length),
        truncation_side=tokenizer.truncation_side,
        pad_id=tokenizer.pad_token_id,
        token_types=token_types,
    )


def _file(path: Path) -> File:
    return File(file=path.name, sha256=fingerprint.of_file(path))
