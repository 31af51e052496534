"""A teacher as one plain ONNX graph in ONNX Runtime, as a careful user would serve it without distillation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.texts import Request, columns_of
from kd_core.serving.folder.network import IDS, MASK, TYPES, Tokenization
from kd_core.serving.graphs.tokens import TextEncoder, mask, padded
from kd_core.teachers.engines import export
from kd_core.teachers.model import Teacher

_FILE = "teacher.onnx"


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

        how = Tokenization(
            file="",
            sha256="",
            max_length=min(teacher.max_length, teacher.tokenizer.model_max_length),
            truncation_side=teacher.tokenizer.truncation_side,
            pad_id=teacher.tokenizer.pad_token_id,
            token_types=TYPES in teacher.tokenizer.model_input_names,
        )
        path = export(teacher, folder / _FILE)
        tokenizer = Tokenizer.from_str(teacher.tokenizer.backend_tokenizer.to_str())
        return cls(path, TextEncoder(tokenizer, how, teacher.kind))

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
