"""Every model's probabilities on the same rows, in the order of the task's labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from kd_core.config.data import TaskParams
from kd_core.inference.all_exits import BATCH_TOKENS, all_exits
from kd_core.models.loading import load_tokenizer
from kd_core.models.student import StudentModel
from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.exits.outcomes import Exits
from kd_core.tasks.baseline import tfidf
from kd_core.tasks.decode import probabilities as probabilities_of
from kd_core.tasks.encode import collate, encode, token_batches
from kd_core.teachers.model import Teacher

Probabilities = npt.NDArray[np.floating]


def of_teacher(teacher: Teacher, rows: pd.DataFrame, task: TaskParams) -> Probabilities:
    """[N, C], in the teacher's own arithmetic. Raises InvalidDataError if its labels or kind are not the task's."""
    if (teacher.labels, teacher.kind) != (task.labels, task.kind):
        raise InvalidDataError(f"teacher {teacher.name}: its labels or kind are not the task's; run teach again")
    encoded = encode(rows, teacher.tokenizer, teacher.task)
    probabilities = np.zeros((len(rows), len(task.labels)), dtype=np.float32)
    with torch.inference_mode():
        for indices in token_batches(encoded.lengths, BATCH_TOKENS):
            batch = collate(encoded, indices, teacher.tokenizer.pad_token_id)
            probabilities[indices] = probabilities_of(teacher.logits(batch), teacher.kind).numpy()
    return probabilities


def of_student(folder: Path, rows: pd.DataFrame, task: TaskParams) -> Exits:
    """The answers of every exit of a student's folder; without branches there is one, the last layer."""
    model, tokenizer = StudentModel.from_pretrained(folder), load_tokenizer(folder)
    return all_exits(model, encode(rows, tokenizer, task), tokenizer.pad_token_id)


def of_tfidf(folder: Path, rows: pd.DataFrame, task: TaskParams) -> Probabilities:
    """[N, C] of the TF-IDF baseline."""
    pairs: Sequence[str] | None = rows["text_pair"].tolist() if task.pair else None
    return tfidf.load(folder).predict_proba(rows["text"].tolist(), pairs)
