"""The exported student answers texts and files; what cannot be answered is refused with a name and a number."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from components import export as component
from components.base import Context
from kd_core.config.data import TaskParams
from kd_core.inference import files, predict, predictor
from kd_core.inference.export import export
from kd_core.inference.files import named_texts, predict_file, read_table, write_table
from kd_core.inference.prediction_log import MODEL
from kd_core.inference.predictor import Predictor
from kd_core.inference.record import InferenceRecord, identity
from kd_core.inference.uncertainties import read_uncertainties
from kd_core.rows import write_rows
from kd_core.runtime.errors import InvalidDataError, ParamsError
from tests.code.tiny import LABELS, tiny_rows
from tests.code.tiny_exits import LAYERS, LOOSE, TASK, export_student, exported_student, save_student, tiny_student
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_student(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def student(folder: Path) -> Predictor:
    return Predictor.load(folder)


def test_export_records_what_is_needed_and_what_was_chosen(folder: Path) -> None:
    record = InferenceRecord.read(folder)
    assert record.task == TASK
    assert (record.layers, record.exits, record.text_columns) == (LAYERS, (1, 2, 3), ("text",))
    assert (record.dial.rows, record.dial.design_rows) == (30, 10)
    assert record.thresholds == record.dial.at(LOOSE.max_disagreement).thresholds
    assert any(record.thresholds)
    assert [wish.max_disagreement for wish in record.dial.wishes] == [0, 0.0025, 0.005, 0.01, 0.02, 0.05]
    assert not (folder / "history.json").exists()


def test_the_training_data_s_column_names_are_recorded_and_found_again(tmp_path: Path) -> None:
    """From the record of the data set, through export, to a file that is laid out as that data was."""
    root = tmp_path / "run"
    save_student(tiny_student(tmp_path), root / "models/self_distill")
    write_rows(root / "data/checked/reference/calibration.parquet", tiny_rows(40))
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


def test_columns_that_are_named_beat_those_on_record(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], student: Predictor
) -> None:
    record = student.record.model_copy(update={"columns": {"text": "body"}})
    rows = pd.DataFrame({"body": ["b"], "text": ["t"], "title": ["the title"]})
    for columns, expected in (({}, "b"), ({"text": "title"}, "the title"), ({"text": "text"}, "t")):
        assert named_texts(rows, record, columns).to_dict("list") == {"text": [expected]}
    rows.to_csv(tmp_path / "in.csv", index=False)
    words = ["--model", str(folder), "--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.csv")]
    assert predict.main([*words, "--column", "text=title"]) == 0
    assert read_table(tmp_path / "out.csv")["label"].tolist() == student.predict(["the title"])["label"].tolist()
    for wrong, status, said in (
        ("text=nowhere", 65, "no column 'nowhere' (columns there: body, text, title); say --column text=NAME"),
        ("label=title", 64, "column 'label': the model reads text"),
        ("title", 64, "--column title: write it as text=NAME"),
    ):
        assert predict.main([*words, "--column", wrong]) == status
        assert said in capsys.readouterr().err


def test_export_twice_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = export_student(tmp_path)
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        assert file.read_bytes() == (again / file.relative_to(folder)).read_bytes(), file.name


def test_export_refuses_a_model_of_another_task(tmp_path: Path) -> None:
    trained = save_student(tiny_student(tmp_path), tmp_path / "trained")
    write_rows(tmp_path / "calibration.parquet", tiny_rows(5))
    other = TASK.model_copy(update={"labels": tuple(reversed(LABELS))})
    with pytest.raises(InvalidDataError, match="labels"):
        export(trained, tmp_path / "calibration.parquet", tmp_path / "student", other, LOOSE)


def test_predictions_are_those_of_the_exits(student: Predictor) -> None:
    rows = tiny_rows(30)
    answers = student.predict(rows["text"].tolist(), threshold=0.6, probabilities=True)
    arrays = student.predict_rows(rows, threshold=0.6)
    each = answers[[f"probability_{label}" for label in LABELS]].to_numpy()
    np.testing.assert_array_equal(each, arrays.probabilities)
    assert answers["label"].tolist() == [LABELS[index] for index in each.argmax(1)]
    np.testing.assert_array_equal(answers["probability"], each.max(1))
    assert set(answers["exit_layer"]) > {1}
    np.testing.assert_allclose(each.sum(1), 1.0, atol=1e-5)


def test_the_chosen_thresholds_are_the_default(student: Predictor) -> None:
    rows = tiny_rows(30)
    chosen = student.predict(rows, threshold=student.record.thresholds)
    pd.testing.assert_frame_equal(student.predict(rows), chosen)
    assert (student.predict(rows, threshold=0.0)["exit_layer"] == LAYERS).all()


def test_a_request_turns_the_dial(student: Predictor) -> None:
    rows, dial = tiny_rows(30), student.record.dial
    for wish in (0.0, LOOSE.max_disagreement, 0.5, 1.0):
        expected = student.predict(rows, threshold=dial.at(wish).thresholds)
        pd.testing.assert_frame_equal(student.predict(rows, max_disagreement=wish), expected)
    assert (student.predict(rows, max_disagreement=0.0)["exit_layer"] == LAYERS).all()
    assert (student.predict(rows, max_disagreement=1.0)["exit_layer"] < LAYERS).all()
    with pytest.raises(ParamsError, match="not both"):
        student.predict(rows, threshold=0.1, max_disagreement=0.1)
    with pytest.raises(ParamsError, match="share of texts"):
        student.predict(rows, max_disagreement=1.5)


def test_command_turns_the_dial_and_logs(
    folder: Path,
    tmp_path: Path,
    student: Predictor,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = tiny_rows(20)["text"].tolist()
    write_table(tmp_path / "in.csv", pd.DataFrame({"text": texts}))
    words = ["--model", str(folder), "--log", str(tmp_path / "log"), "--max-disagreement", "0.5"]
    assert predict.main([*words, "--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.csv")]) == 0
    expected = student.predict(texts, max_disagreement=0.5)
    assert [int(value) for value in read_table(tmp_path / "out.csv")["exit_layer"]] == expected["exit_layer"].tolist()
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps("the tiger")))
    assert predict.main(words) == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps("the tiger")))
    assert predict.main([*words, "--threshold", "0.1"]) == 64
    assert "not both" in capsys.readouterr().err
    logs = [pq.read_table(path) for path in sorted((tmp_path / "log").iterdir())]
    first, second = sorted(logs, key=len, reverse=True)
    assert first["exit_layer"].to_pylist() == expected["exit_layer"].tolist()
    np.testing.assert_allclose(first["entropy"].to_numpy(), expected["entropy"], atol=1e-5)
    assert set(map(tuple, first["thresholds"].to_pylist())) == {student.record.dial.at(0.5).thresholds}
    assert [labels for (labels,) in first["labels"].to_pylist()] == expected["label"].tolist()
    assert len(second) == 1
    assert first.schema.metadata[MODEL].decode() == identity(folder)


def test_another_calibration_is_another_identity(folder: Path, tmp_path: Path) -> None:
    record = InferenceRecord.read(folder)
    record.write(tmp_path)
    assert identity(tmp_path) == identity(folder)
    record.model_copy(update={"weights": "others"}).write(tmp_path)
    assert identity(tmp_path) != identity(folder)


def test_calibration_takes_one_row_of_a_group_and_needs_no_label(tmp_path: Path) -> None:
    trained = save_student(tiny_student(tmp_path), tmp_path / "trained")
    rows = tiny_rows(40, labels=None)
    rows["group"] = [f"g{number // 4}" for number in range(40)]
    write_rows(tmp_path / "calibration.parquet", rows)
    dial = export(trained, tmp_path / "calibration.parquet", tmp_path / "student", TASK, LOOSE)
    assert dial.rows + dial.design_rows == 10
    firsts = Predictor.load(tmp_path / "student").predict_rows(rows.iloc[::4], threshold=0.0)
    kept = read_uncertainties(tmp_path / "student", (1, 2, 3))
    np.testing.assert_allclose(np.sort(kept[:, -1]), np.sort(firsts.entropy), atol=1e-5)


def test_labels_beside_the_texts_are_not_read(student: Predictor) -> None:
    rows = tiny_rows(6).assign(label="unheard of")
    assert set(student.predict(rows)["label"]) <= set(LABELS)


def test_chunks_change_nothing(student: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tiny_rows(25)
    whole = student.predict(rows, threshold=0.6)
    monkeypatch.setattr(predictor, "CHUNK_ROWS", 4)
    reports: list[tuple[int, int]] = []
    parts = student.predict(rows, threshold=0.6, report=lambda done, total: reports.append((done, total)))
    pd.testing.assert_frame_equal(whole, parts, atol=1e-5)
    assert reports == [(done, 25) for done in (4, 8, 12, 16, 20, 24, 25)]


def test_strange_texts_are_answered(student: Predictor) -> None:
    texts = ["🙂🙃", "שלום עולם", "word " * 100_000, "\x00\ufeff tiger", "日本語"]
    assert len(student.predict(texts)) == len(texts)


def test_pairs(tmp_path: Path) -> None:
    task = TaskParams(kind="classification", labels=LABELS, pair=True, max_length=32)
    pairs = Predictor.load(exported_student(tmp_path, task))
    assert len(pairs.predict(tiny_rows(5, pair=True))) == 5
    with pytest.raises(InvalidDataError, match="text_pair"):
        pairs.predict(["alone"])


@pytest.mark.parametrize("bad", [None, float("nan"), "", "  "])
def test_rows_without_text_are_named(student: Predictor, bad: object) -> None:
    with pytest.raises(InvalidDataError, match="no text in row 2 "):
        student.predict(pd.DataFrame({"text": ["a", bad, "c"]}, dtype=object))


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_thresholds_that_mean_nothing(student: Predictor, threshold: float) -> None:
    with pytest.raises(ParamsError, match="normalised entropy"):
        student.predict(["a"], threshold=threshold)


def test_a_folder_that_was_not_exported(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match=r"inference\.json"):
        Predictor.load(tmp_path)


def write(path: Path, records: list[dict[str, object]]) -> Path:
    files.write_table(path, pd.DataFrame(records, dtype=object if path.suffix != ".parquet" else None))
    return path


RECORDS: list[dict[str, object]] = [
    {"number": 7, "text": 'tiger, "quoted"\nline two', "label": "mine"},
    {"number": 8, "text": "a stone שלום 🙂", "label": "other"},
]


@pytest.mark.parametrize("source", files.EXTENSIONS)
@pytest.mark.parametrize("target", files.EXTENSIONS)
def test_files_of_every_kind(student: Predictor, tmp_path: Path, source: str, target: str) -> None:
    given, out = write(tmp_path / f"in{source}", RECORDS), tmp_path / f"out{target}"
    assert predict_file(student, given, out, threshold=0.6) == 2
    rows = read_table(out)
    expected = student.predict([str(record["text"]) for record in RECORDS], threshold=0.6)
    assert rows["text"].tolist() == [record["text"] for record in RECORDS]
    assert rows["label"].tolist() == ["mine", "other"]
    assert rows["predicted_label"].tolist() == expected["label"].tolist()
    assert [int(value) for value in rows["number"]] == [7, 8]
    assert [int(value) for value in rows["exit_layer"]] == expected["exit_layer"].tolist()
    np.testing.assert_allclose(rows["entropy"].astype(float), expected["entropy"], atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([given.name, out.name])


def test_jsonl_values_keep_their_types(student: Predictor, tmp_path: Path) -> None:
    lines = ['{"text": "tiger", "n": 1, "big": 12345678901234567890, "none": null}', '{"text": "stone", "tags": ["a"]}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    predict_file(student, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert written[0].items() >= {"n": 1, "big": 12345678901234567890, "none": None}.items()
    assert written[1]["tags"] == ["a"]
    assert "n" not in written[1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", b"body\nhello\n", "no column 'text'"),
        ("in.csv", b"", "cannot be read"),
        ("in.csv", b"text\n", "no rows"),
        ("in.csv", b"text,n\nhello,1\n,2\n", "row 2"),
        ("in.csv", b"text\n\xff\xfe\xfa\n", "cannot be read"),
        ("in.jsonl", b'{"text": "a"}\nnot json\n', "line 2"),
        ("in.jsonl", b'["a"]\n', "line 1"),
        ("in.jsonl", b'{"text": "a"}\n{"text": null}\n', "row 2"),
        ("in.parquet", b"PAR1", "cannot be read"),
        ("in.txt", b"hello", "unknown kind"),
        ("missing.csv", None, "no such file"),
    ],
)
def test_bad_files(student: Predictor, tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidDataError, match=message) as caught:
        predict_file(student, tmp_path / name, tmp_path / "out.csv")
    assert name in str(caught.value)
    assert not (tmp_path / "out.csv").exists()


def test_output_is_whole_or_absent(student: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, rows: pd.DataFrame) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(files._WRITERS, ".csv", broken)
    write(tmp_path / "in.jsonl", RECORDS)
    (tmp_path / "out.csv").write_text("old")
    with pytest.raises(OSError, match="No space"):
        predict_file(student, tmp_path / "in.jsonl", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_command_answers_a_file(folder: Path, tmp_path: Path) -> None:
    """As a process of its own, which is how callers without torch use it."""
    source, target = write(tmp_path / "in.csv", RECORDS), tmp_path / "out.parquet"
    words = ["--model", folder, "--input", source, "--output", target, "--threshold", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "KD_PROGRESS": str(tmp_path / "progress")}
    call = [sys.executable, "-m", "kd_core.inference.predict", *map(str, words)]
    done = subprocess.run(call, capture_output=True, text=True, cwd=PROJECT, env=environment)
    assert done.returncode == 0, done.stderr
    assert read_table(target)["exit_layer"].tolist() == [LAYERS] * 2
    events = [json.loads(line) for line in (tmp_path / "progress").read_text().splitlines()]
    assert (events[-1]["stage"], events[-1]["done"], events[-1]["total"]) == ("predict", 2, 2)


def test_command_answers_standard_input(
    student: Predictor, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('"the tiger"\n\n{"text": "a stone"}\n'))
    assert predict.main(["--model", str(folder), "--probabilities"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["text"] for answer in answers] == ["the tiger", "a stone"]
    assert answers[0]["label"] == student.predict(["the tiger"])["label"][0]
    assert sum(answers[0][f"probability_{label}"] for label in LABELS) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("stdin", "message"), [("", "no texts"), ("tiger\n", "line 1 is not JSON"), ('"a"\n7\n', "line 2 must hold")]
)
def test_command_says_what_is_wrong_with_standard_input(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stdin: str, message: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
    assert predict.main(["--model", str(folder)]) == 65
    assert message in capsys.readouterr().err


def test_command_says_what_is_wrong_with_a_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text("body\nhello\n")
    words = ["--model", str(folder), "--input", str(tmp_path / "in.csv")]
    assert predict.main([*words, "--output", str(tmp_path / "out.csv")]) == 65
    assert f"error: {tmp_path / 'in.csv'}: no column 'text'" in capsys.readouterr().err
    assert predict.main(words) == 64
