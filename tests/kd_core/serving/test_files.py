"""Files of every kind and the command that answers them, or standard input; both say what is wrong and where."""

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

from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.__main__ import main
from kd_core.serving.files import named_texts, predict_file
from kd_core.serving.folder.record import identity
from kd_core.serving.prediction_log import MODEL
from kd_core.serving.predictor import Predictor
from kd_core.tables import writing
from kd_core.tables.formats import Format
from kd_core.tables.reading import read_table
from kd_core.tables.writing import write_table
from tests.conftest import PROJECT
from tests.helpers.tiny import LABELS, tiny_rows
from tests.helpers.tiny_exits import LAYERS


def test_columns_that_are_named_beat_those_on_record(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], student: Predictor
) -> None:
    record = student.record.model_copy(update={"columns": {"text": "body"}})
    rows = pd.DataFrame({"body": ["b"], "text": ["t"], "title": ["the title"]})
    for columns, expected in (({}, "b"), ({"text": "title"}, "the title"), ({"text": "text"}, "t")):
        assert named_texts(rows, record, columns).to_dict("list") == {"text": [expected]}
    rows.to_csv(tmp_path / "in.csv", index=False)
    words = ["--model", str(exported), "--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.csv")]
    assert main(["predict", *words, "--column", "text=title"]) == 0
    assert read_table(tmp_path / "out.csv")["label"].tolist() == student.predict(["the title"])["label"].tolist()
    for wrong, status, said in (
        ("text=nowhere", 65, "no column 'nowhere' (columns there: body, text, title); say --column text=NAME"),
        ("label=title", 64, "column 'label': the model reads text"),
        ("title", 64, "--column title: write it as text=NAME"),
    ):
        assert main(["predict", *words, "--column", wrong]) == status
        assert said in capsys.readouterr().err


def test_command_turns_the_dial_and_logs(
    exported: Path,
    tmp_path: Path,
    student: Predictor,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = tiny_rows(20)["text"].tolist()
    write_table(tmp_path / "in.csv", pd.DataFrame({"text": texts}))
    words = ["--model", str(exported), "--log", str(tmp_path / "log"), "--max-disagreement", "0.5"]
    assert main(["predict", *words, "--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.csv")]) == 0
    expected = student.predict(texts, student.limits(max_disagreement=0.5))
    assert [int(value) for value in read_table(tmp_path / "out.csv")["exit_layer"]] == expected["exit_layer"].tolist()
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps("the tiger")))
    assert main(["predict", *words]) == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps("the tiger")))
    assert main(["predict", *words, "--threshold", "0.1"]) == 64
    assert "give one of" in capsys.readouterr().err
    logs = [pq.read_table(path) for path in sorted((tmp_path / "log").iterdir())]
    first, second = sorted(logs, key=len, reverse=True)
    assert first["exit_layer"].to_pylist() == expected["exit_layer"].tolist()
    np.testing.assert_allclose(first["entropy"].to_numpy(), expected["entropy"], atol=1e-5)
    assert set(map(tuple, first["thresholds"].to_pylist())) == {student.record.dial.at(0.5).thresholds}
    assert [labels for (labels,) in first["labels"].to_pylist()] == expected["label"].tolist()
    assert len(second) == 1
    assert first.schema.metadata[MODEL].decode() == identity(exported)


def write(path: Path, records: list[dict[str, object]]) -> Path:
    write_table(path, pd.DataFrame(records, dtype=object if path.suffix != ".parquet" else None))
    return path


KINDS = (".csv", ".tsv", ".jsonl", ".ndjson.gz", ".parquet")
RECORDS: list[dict[str, object]] = [
    {"number": 7, "text": 'tiger, "quoted"\nline two', "label": "mine"},
    {"number": 8, "text": "a stone שלום 🙂", "label": "other"},
]


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
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
        ("in.csv", b"", "empty file"),
        ("in.csv", b"text\n", "no rows"),
        ("in.csv", b"text,n\nhello,1\n,2\n", "row 2"),
        ("in.csv", b"text\n\xff\xfe\xfa\n", "not UTF-8: byte 5"),
        ("in.jsonl", b'{"text": "a"}\nnot json\n', "line 2"),
        ("in.jsonl", b'["a"]\n', "line 1"),
        ("in.jsonl", b'{"text": "a"}\n{"text": null}\n', "row 2"),
        ("in.parquet", b"PAR1", "not a readable Parquet file"),
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
    def broken(path: Path, rows: pd.DataFrame, form: Format) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(writing.WRITERS, "csv", broken)
    write(tmp_path / "in.jsonl", RECORDS)
    (tmp_path / "out.csv").write_text("old")
    with pytest.raises(OSError, match="No space"):
        predict_file(student, tmp_path / "in.jsonl", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_command_says_that_the_disk_is_full(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, rows: pd.DataFrame, form: Format) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(writing.WRITERS, "csv", full)
    source = write(tmp_path / "in.jsonl", RECORDS)
    words = ["--model", str(exported), "--input", str(source), "--output", str(tmp_path / "out.csv")]
    assert main(["predict", *words]) == 75
    assert "No space left on device: free space, then run again" in capsys.readouterr().err


def test_command_answers_a_file(exported: Path, tmp_path: Path) -> None:
    """As a process of its own, which is how callers without torch use it."""
    source, target = write(tmp_path / "in.csv", RECORDS), tmp_path / "out.parquet"
    words = ["--model", exported, "--input", source, "--output", target, "--threshold", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "KD_PROGRESS": str(tmp_path / "progress")}
    call = [sys.executable, "-m", "kd_core.serving", "predict", *map(str, words)]
    done = subprocess.run(call, capture_output=True, text=True, cwd=PROJECT, env=environment)
    assert done.returncode == 0, done.stderr
    assert read_table(target)["exit_layer"].tolist() == [LAYERS] * 2
    events = [json.loads(line) for line in (tmp_path / "progress").read_text().splitlines()]
    assert (events[-1]["stage"], events[-1]["done"], events[-1]["total"]) == ("predict", 2, 2)


def test_command_answers_standard_input(
    student: Predictor, exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('"the tiger"\n\n{"text": "a stone"}\n'))
    assert main(["predict", "--model", str(exported), "--probabilities"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["text"] for answer in answers] == ["the tiger", "a stone"]
    assert answers[0]["label"] == student.predict(["the tiger"])["label"][0]
    assert sum(answers[0][f"probability_{label}"] for label in LABELS) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("stdin", "message"), [("", "no texts"), ("tiger\n", "line 1 is not JSON"), ('"a"\n7\n', "line 2 must hold")]
)
def test_command_says_what_is_wrong_with_standard_input(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stdin: str, message: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
    assert main(["predict", "--model", str(exported)]) == 65
    assert message in capsys.readouterr().err


def test_command_says_what_is_wrong_with_a_file(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text("body\nhello\n")
    words = ["--model", str(exported), "--input", str(tmp_path / "in.csv")]
    assert main(["predict", *words, "--output", str(tmp_path / "out.csv")]) == 65
    assert f"error: {tmp_path / 'in.csv'}: no column 'text'" in capsys.readouterr().err
    assert main(["predict", *words]) == 64


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_text_may_stay_without_an_answer(student: Predictor, tmp_path: Path, kind: str) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "tiger"}\n{"text": " "}\n{"text": null}\n{"text": "7"}\n')
    with pytest.raises(InvalidDataError, match=r"in\.jsonl: column 'text': no text in row 2, 3 .*--skip-empty"):
        predict_file(student, tmp_path / "in.jsonl", tmp_path / "out.csv")
    assert predict_file(student, tmp_path / "in.jsonl", tmp_path / f"out{kind}", skip_empty=True) == 4
    found = read_table(tmp_path / f"out{kind}")
    expected = student.predict(["tiger", "7"])
    assert found["label"].isna().tolist() == found["exit_layer"].isna().tolist() == [False, True, True, False]
    assert found["label"].dropna().tolist() == expected["label"].tolist()
    assert [int(layer) for layer in found["exit_layer"].dropna()] == expected["exit_layer"].tolist()


def test_what_the_output_cannot_hold_is_refused_before_anything_is_computed(
    student: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "tiger", "n": 1}\n{"text": "stone", "n": "one"}\n')
    monkeypatch.setattr(Predictor, "predict", lambda *_: pytest.fail("asked"))
    with pytest.raises(InvalidDataError, match=r"out\.parquet: column 'n' holds values of several types"):
        predict_file(student, tmp_path / "in.jsonl", tmp_path / "out.parquet")
