"""ONNX Runtime answers as PyTorch does, whatever the architecture, and takes over only where it is measured faster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
import torch

from kd_core.inference.batches import collate, encode
from kd_core.runtime.errors import ParamsError
from kd_core.runtime.progress import Progress
from kd_core.teachers import engines, scoring
from kd_core.teachers.engines import Batch, Engine
from kd_core.teachers.model import Teacher
from kd_core.teachers.score_store import ScoreStore
from tests.helpers.tiny import ARCHITECTURES, TOKENIZERS, tiny_rows, tiny_teacher, tiny_tokenizer

QUIET = Progress("score")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_teacher(tmp_path_factory.mktemp("teacher") / "tiny", steps=5)


def batches_of(teacher: Teacher, count: int = 24) -> list[Batch]:
    rows = tiny_rows(count, pair=teacher.pair)
    encoded = encode(rows, teacher.tokenizer, teacher.task)
    return [
        collate(encoded, batch, teacher.tokenizer.pad_token_id)
        for batch in scoring.equal_length_batches(encoded.lengths, 64)
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_onnxruntime_answers_as_pytorch_does(architecture: str, tmp_path: Path) -> None:
    """At other lengths and batch sizes than the teacher was traced with, and in our order of the labels."""
    tokenizer = TOKENIZERS.get(architecture, tiny_tokenizer)()
    path = tiny_teacher(tmp_path / "t", steps=5, model_type=architecture, tokenizer=tokenizer, pair=True)
    teacher = Teacher.load(path)
    teacher.label_order = (2, 0, 1)
    exported, plain = engines.in_onnxruntime(teacher), engines.in_pytorch(teacher)
    batches = batches_of(teacher)
    assert len({batch["input_ids"].shape for batch in batches}) > 3
    for batch in batches:
        np.testing.assert_allclose(exported(batch), plain(batch), atol=1e-4)


def test_answers_come_in_the_order_of_the_batches(folder: Path) -> None:
    teacher = Teacher.load(folder)
    batches, plain = batches_of(teacher, 60), engines.in_pytorch(teacher)
    for found, batch in zip(engines.answers(plain, iter(batches), "cpu"), batches, strict=True):
        np.testing.assert_allclose(found, plain(batch), atol=1e-5)


def test_threads_started_later_compute_as_before(folder: Path) -> None:
    """PyTorch hands a thread the number of threads that was set last, by whichever thread."""
    teacher, before = Teacher.load(folder), torch.get_num_threads()
    torch.set_num_threads(3)
    list(engines.answers(engines.in_pytorch(teacher), batches_of(teacher), "cpu"))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 3
    torch.set_num_threads(before)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Says how long either engine takes for the same batches, and by how much ONNX Runtime's answers are wrong."""

    def set_to(pytorch: float, onnxruntime: float, wrong_by: float = 0.0) -> None:
        timed, takes = engines._timed, iter([(pytorch, 0.0), (onnxruntime, wrong_by)])

        def fabricated(teacher: Teacher, engine: Engine, batches: list[Batch]) -> tuple[float, torch.Tensor]:
            seconds, wrong = next(takes)
            return seconds, timed(teacher, engine, batches)[1] + wrong

        monkeypatch.setattr(engines, "_timed", fabricated)

    return set_to


def is_onnxruntime(engine: Engine) -> bool:
    return "in_onnxruntime" in engine.__qualname__  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("seconds", "wrong_by", "taken"), [((2.0, 1.0), 0.0, True), ((1.0, 2.0), 0.0, False), ((2.0, 1.0), 0.001, False)]
)
def test_the_faster_engine_is_taken_if_it_gives_the_same(
    folder: Path, clock: Callable[..., None], seconds: tuple[float, float], wrong_by: float, taken: bool
) -> None:
    teacher = Teacher.load(folder)
    clock(*seconds, wrong_by)
    assert is_onnxruntime(engines.faster(teacher, batches_of(teacher))) is taken


def test_a_bf16_teacher_stays_in_pytorch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph of it would compute in another precision than its scores are stored under."""
    teacher = Teacher.load(folder, precision="bf16")
    monkeypatch.delattr(engines, "export")
    assert not is_onnxruntime(engines.faster(teacher, batches_of(teacher)))


@pytest.mark.parametrize("failing", ["export", "open_session", "in_onnxruntime"])
def test_pytorch_stays_where_onnxruntime_cannot(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failing: str
) -> None:
    """Be it that no graph can be made, that none can be opened, or that it cannot answer some batch."""

    def refuse(*_: object) -> None:
        raise ParamsError("teacher tiny cannot be exported to ONNX: no")

    monkeypatch.setattr(engines, failing, (lambda _: refuse) if failing == "in_onnxruntime" else refuse)
    teacher = Teacher.load(folder)
    with caplog.at_level("INFO"):
        assert not is_onnxruntime(engines.faster(teacher, batches_of(teacher)))
    assert "PyTorch goes on: teacher tiny cannot be exported to ONNX: no" in caplog.text


@pytest.mark.parametrize(("worth", "compared"), [(-1.0, 1), (1000.0, 0)])
def test_engines_are_compared_once_and_only_where_much_is_left(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worth: float, compared: int
) -> None:
    """Every text is answered once, by PyTorch in the first shard and then by what was found to be faster."""
    asked: Counter[str] = Counter()
    several_ask = Lock()

    def counted(name: str, engine: Engine) -> Engine:
        def count(batch: Batch) -> torch.Tensor:
            with several_ask:
                asked[name] += len(batch["input_ids"])
            return engine(batch)

        return count

    def faster(teacher: Teacher, batches: list[Batch]) -> Engine:
        asked["comparisons"] += 1
        return counted("onnxruntime", engines.in_onnxruntime(teacher))

    rows, in_pytorch = tiny_rows(60).drop_duplicates("text"), engines.in_pytorch
    expected = scoring.logits_of(Teacher.load(folder), rows).values
    monkeypatch.setattr(scoring, "in_pytorch", lambda teacher: counted("pytorch", in_pytorch(teacher)))
    monkeypatch.setattr(scoring, "faster", faster)
    monkeypatch.setattr(scoring, "SHARD_SECONDS", 0.0)
    monkeypatch.setattr(scoring, "COMPARED_FROM_SECONDS", worth)
    monkeypatch.setitem(scoring._BATCH_TOKENS, "cpu", 64)
    found = scoring.score(Teacher.load(folder), rows, ScoreStore(tmp_path), QUIET).values
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert asked["comparisons"] == compared
    assert asked["pytorch"] + asked["onnxruntime"] == len(rows)
    assert (asked["onnxruntime"] > 0) == bool(compared)
