"""A teacher as one plain ONNX graph in ONNX Runtime, as a careful user would serve it without distillation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.texts import Request, columns_of
from kd_core.models.teacher import Teacher
from kd_core.serving.manifest import IDS, MASK, TYPES, Tokenization
from kd_core.serving.tokens import TextEncoder, mask, padded

_FILE = "teacher.onnx"


class _Logits(nn.Module):
    """A sequence classifier's logits, its inputs by position."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        """[B, C]"""
        return self.model(**dict(zip(self.names, inputs, strict=True))).logits  # type: ignore[no-any-return]


@dataclass(frozen=True)
class OnnxTeacher:
    """The graph in its file, and how texts become its tokens."""

    path: Path
    encoder: TextEncoder
    running: Any = None
    """The onnxruntime session; none before `session`."""

    @classmethod
    def export(cls, teacher: Teacher, folder: Path) -> OnnxTeacher:
        """Write the graph; batch and length are dynamic."""
        from tokenizers import Tokenizer

        names = [IDS, MASK, *([TYPES] if TYPES in teacher.tokenizer.model_input_names else [])]
        axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
        torch.onnx.export(
            _Logits(teacher.model.eval(), names),
            tuple(torch.ones(3, 7, dtype=torch.long) for _ in names),
            folder / _FILE,
            input_names=names,
            output_names=["logits"],
            dynamic_shapes=(tuple(axes for _ in names),),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        how = Tokenization(
            file="",
            sha256="",
            max_length=min(teacher.max_length, teacher.tokenizer.model_max_length),
            truncation_side=teacher.tokenizer.truncation_side,
            pad_id=teacher.tokenizer.pad_token_id,
            token_types=TYPES in names,
        )
        return cls(folder / _FILE, TextEncoder(Tokenizer.from_str(teacher.tokenizer.backend_tokenizer.to_str()), how))

    def session(self, threads: int) -> OnnxTeacher:
        """The same, loaded as anybody would: so many threads, everything else by default."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        running = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        return OnnxTeacher(self.path, self.encoder, running)

    def answer(self, request: Request) -> Any:
        """[N, C] logits, all texts in one batch, padded to the longest."""
        tokens = self.encoder.encode(columns_of(request))
        every, length = np.arange(len(tokens)), int(tokens.lengths.max())
        feeds = {IDS: padded(tokens.ids, every, length, self.encoder.how.pad_id), MASK: mask(tokens.lengths, length)}
        if tokens.types is not None:
            feeds[TYPES] = padded(tokens.types, every, length, 0)
        taken = {each.name for each in self.running.get_inputs()}
        return self.running.run(None, {name: value for name, value in feeds.items() if name in taken})[0]
