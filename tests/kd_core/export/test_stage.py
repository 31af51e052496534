"""Export: what is recorded, what the calibration reads, and the same bytes again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components import export as component
from components.base import Context
from kd_core.export import checking
from kd_core.export.stage import export
from kd_core.export.tracing import trace
from kd_core.rows import write_rows
from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.files import predict_file
from kd_core.serving.folder.profile import Profile
from kd_core.serving.folder.record import ModelRecord, identity
from kd_core.serving.predictor import Predictor
from kd_core.tables.reading import read_table
from kd_core.tables.writing import write_table
from tests.helpers.tiny import LABELS, tiny_rows
from tests.helpers.tiny_exits import LAYERS, LOOSE, TASK, export_student, save_student, tiny_student


def test_export_records_what_is_needed_and_what_was_chosen(exported: Path) -> None:
    record = ModelRecord.read(exported)
    assert record.task == TASK
    assert (record.exits, record.text_columns) == ((1, 2, LAYERS), ("text",))
    assert (record.dial.rows, record.dial.design_rows) == (30, 10)
    assert record.thresholds == record.dial.at(LOOSE.max_disagreement).thresholds
    assert any(record.thresholds)
    assert not (exported / "history.json").exists()


def test_the_training_data_s_column_names_are_recorded_and_found_again(tmp_path: Path) -> None:
    """From the record of the data set, through export, to a file that is laid out as that data was."""
    root = tmp_path / "run"
    save_student(tiny_student(tmp_path), root / "models/self_distill")
    for split in ("calibration", "valid"):
        write_rows(root / f"data/checked/reference/{split}.parquet", tiny_rows(40))
    source = {"kind": "files", "path": "x.csv", "columns": {"text": "body", "label": "queue"}}
    (root / "data/checked/reference/dataset.json").write_text(json.dumps({"source": source}))
    task = TASK.model_dump(mode="json")
    (root / "params.yaml").write_text(json.dumps({"export": {}, "data": {"reference": {"task": task}}}))
    component.main(Context(component.COMPONENT, {}, root))
    student = Predictor.load(root / "models/student")
    assert student.record.columns == {"text": "body"}, "only what is read"
    texts = ["the tiger", "a stone"]
    expected = student.predict(texts)["label"].tolist()
    for columns in ({"body": texts}, {"text": texts}, {"body": texts, "text": ["an apple", "an apple"]}):
        write_table(tmp_path / "in.csv", pd.DataFrame(columns))
        predict_file(student, tmp_path / "in.csv", tmp_path / "out.csv")
        found = read_table(tmp_path / "out.csv")
        assert found["label"].tolist() == expected
        assert list(found.columns)[: len(columns)] == list(columns), "the file's own columns stay as they are"


def test_export_twice_writes_the_same_bytes(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "trace", trace)
    again = export_student(tmp_path)
    for file in sorted(each for each in exported.rglob("*") if each.is_file()):
        assert file.read_bytes() == (again / file.relative_to(exported)).read_bytes(), file.name


def test_export_refuses_a_model_of_another_task(tmp_path: Path) -> None:
    trained = save_student(tiny_student(tmp_path), tmp_path / "trained")
    write_rows(tmp_path / "calibration.parquet", tiny_rows(5))
    other = TASK.model_copy(update={"labels": tuple(reversed(LABELS))})
    with pytest.raises(InvalidDataError, match="labels"):
        export(trained, tmp_path / "calibration.parquet", tmp_path / "student", other, LOOSE)


def test_another_calibration_is_another_identity(exported: Path, tmp_path: Path) -> None:
    record = ModelRecord.read(exported)
    record.write(tmp_path)
    assert identity(tmp_path) == identity(exported)
    record.model_copy(update={"weights": "others"}).write(tmp_path)
    assert identity(tmp_path) != identity(exported)


def test_calibration_takes_one_row_of_a_group_and_needs_no_label(tmp_path: Path) -> None:
    trained = save_student(tiny_student(tmp_path), tmp_path / "trained")
    rows = tiny_rows(40, labels=None)
    rows["group"] = [f"g{number // 4}" for number in range(40)]
    write_rows(tmp_path / "calibration.parquet", rows)
    dial = export(trained, tmp_path / "calibration.parquet", tmp_path / "student", TASK, LOOSE)
    assert dial.rows + dial.design_rows == 10
    firsts = Predictor.load(tmp_path / "student").predict_rows(rows.iloc[::4], threshold=0.0)
    kept = Profile.read(tmp_path / "student").uncertainty
    np.testing.assert_allclose(np.sort(kept[:, -1]), np.sort(firsts.entropy), atol=1e-5)
