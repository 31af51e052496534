"""The prediction log: every answer once, no text, whole files, any number of writers."""

from __future__ import annotations

import logging
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from kd_core.runtime.errors import ParamsError, TryAgainError
from kd_core.serving import prediction_log
from kd_core.serving.prediction_log import MODEL, PredictionLog


def answers(rows: int, first: int = 0) -> pd.DataFrame:
    numbers = np.arange(first, first + rows)
    entropy = (numbers / 1e6).astype(np.float32)
    return pd.DataFrame({"label": "red", "exit_layer": numbers % 3 + 1, "entropy": entropy, "text": "secret"})


def entropies(folder: Path) -> list[int]:
    tables = [pq.read_table(path) for path in sorted(folder.glob("*"))]
    return sorted(round(float(value) * 1e6) for table in tables for value in table["entropy"].to_numpy())


def test_what_is_logged(tmp_path: Path) -> None:
    with PredictionLog(tmp_path, "model one") as log:
        log.add(answers(3), (0.1, 0.25))
        log.add(answers(1).assign(label=[("a", "b")]), (0.0, 0.0))
    (file,) = tmp_path.iterdir()
    table = pq.read_table(file)
    assert table.column_names == ["time", "exit_layer", "entropy", "labels", "thresholds"]
    assert table.schema.metadata[MODEL] == b"model one"
    assert table["exit_layer"].to_pylist() == [1, 2, 3, 1]
    assert table["labels"].to_pylist() == [["red"]] * 3 + [["a", "b"]]
    assert table["thresholds"].to_pylist() == [[0.1, 0.25]] * 3 + [[0.0, 0.0]]
    assert str(table.schema.field("time").type) == "timestamp[ms, tz=UTC]"
    assert b"secret" not in file.read_bytes()


def test_nothing_asked_nothing_written(tmp_path: Path) -> None:
    with PredictionLog(tmp_path / "log", "m") as log:
        log.add(answers(0), (0.1,))
    assert list((tmp_path / "log").iterdir()) == []


def test_files_are_finished_at_a_number_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_log, "MOST_ROWS", 100)
    with PredictionLog(tmp_path, "m") as log:
        for start, rows in ((0, 30), (30, 30), (60, 240), (300, 50)):
            log.add(answers(rows, start), (0.1,))
    assert entropies(tmp_path) == list(range(350))
    assert sorted(pq.read_metadata(path).num_rows for path in tmp_path.iterdir()) == [50, 100, 100, 100]


def test_files_are_finished_at_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_log, "MOST_BYTES", 2000)
    with PredictionLog(tmp_path, "m") as log:
        for start in range(0, 400, 20):
            log.add(answers(20, start), (0.1,))
    assert entropies(tmp_path) == list(range(400))
    assert len(list(tmp_path.iterdir())) > 4


def test_answers_are_on_disk_before_the_process_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first at once, later ones with the first request after a while; the file is whole at every moment."""
    now = [0.0]
    monkeypatch.setattr(prediction_log.time, "monotonic", lambda: now[0])
    log = PredictionLog(tmp_path, "m")
    seen = []
    for second in (0.0, 1.0, 4.9, 5.0, 6.0, 10.0):
        now[0] = second
        log.add(answers(1, int(second * 10)), (0.1,))
        seen.append(len(entropies(tmp_path)))
    assert seen == [1, 1, 1, 4, 4, 6]
    assert len(list(tmp_path.iterdir())) == 1


def _write(folder: Path, first: int) -> None:
    with PredictionLog(folder, "m") as log:
        for start in range(first, first + 1000, 10):
            log.add(answers(10, start), (0.1,))


def test_processes_that_log_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_log, "WRITE_SECONDS", 0.0)
    monkeypatch.setattr(prediction_log, "MOST_ROWS", 300)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(tmp_path, first)) for first in (0, 1000, 2000)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        for path in tmp_path.glob("*.parquet"):
            with path.open("rb") as file:
                assert pq.read_table(file).num_rows  # whole while they write
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert entropies(tmp_path) == list(range(3000))


def test_a_forked_server_process_writes_a_file_of_its_own(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, "m")
    log.add(answers(1), (0.1,))
    log.add(answers(1, 1), (0.1,))  # not on disk yet: the parent's to write
    child = os.fork()
    if child == 0:
        log.add(answers(1, 2), (0.1,))
        log.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    log.close()
    assert entropies(tmp_path) == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_disk_that_fails_costs_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prediction_log, "WRITE_SECONDS", 0.0)
    log = PredictionLog(tmp_path, "m")
    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING):
        broken.setattr(prediction_log, "write_table", full)
        log.add(answers(2), (0.1,))
        with pytest.raises(TryAgainError, match="2 answers are not logged"):
            log.close()
    assert "2 answers are not logged yet: [Errno 28] No space left on device" in caplog.text
    log.add(answers(1, 2), (0.1,))
    assert entropies(tmp_path) == [0, 1, 2]


def test_a_disk_that_fails_for_long_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prediction_log, "MOST_ROWS", 3)
    log = PredictionLog(tmp_path, "m")
    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING):
        broken.setattr(prediction_log, "write_table", full)
        log.add(answers(7), (0.1,))
    assert [record.message.split(": ")[1] for record in caplog.records] == ["3 answers are lost"] * 2
    log.close()
    assert entropies(tmp_path) == [6]


def test_a_folder_that_cannot_be_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ParamsError, match=r"prediction log .*file"):
        PredictionLog(tmp_path / "file" / "log", "m")
