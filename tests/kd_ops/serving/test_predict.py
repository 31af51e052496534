"""`kd predict`: what it hands over to the model's own process, and the contradictions that it refuses."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kd_core.runtime.errors import ParamsError
from kd_ops.base.settings import Settings
from kd_ops.serving import predict
from kd_ops.serving.description import Description
from kd_ops.serving.predict import Question
from kd_ops.serving.served import ServedModel
from tests.helpers.calling import invoke


def test_predict_refuses_contradictions(tmp_path: Path) -> None:
    for question, said in {
        Question(): "give either texts, or --input",
        Question(texts=("a",), source=tmp_path, target=tmp_path): "give either texts, or --input",
        Question(source=tmp_path): "belong together",
        Question(texts=("a", "b"), pairs=("c",)): "one for each text",
        Question(texts=("a",), columns=("text=body",)): "--column names columns of --input",
        Question(texts=("a",), threshold=0.1, max_latency_ms=3.0): "give one of",
        Question(texts=("a",), max_latency_ms=3.0, min_throughput=9.0): "give one of",
        Question(texts=("a",), percentile=0.9): "--percentile belongs to --max-latency-ms",
    }.items():
        with pytest.raises(ParamsError, match=said):
            question.check()


def test_predict_hands_texts_over_as_json_lines(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def answered(self: Any, arguments: list[str], texts: str | None = None, costs: Any = None) -> str:
        seen.append((self.student, arguments, texts))
        answer = {"label": "red", "probability": 0.91, "exit_layer": 1, "entropy": 0.1}
        return "".join(json.dumps({**json.loads(line), **answer}) + "\n" for line in (texts or "").splitlines())

    monkeypatch.setattr("kd_ops.serving.served.ServedModel.predict", answered)
    words = ("predict", "--model", str(tmp_path), "--threshold", "0.2", "an [odd] text", "שלום 🙂")
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    assert "an [odd] text" in result.output
    assert "91.0%" in result.output
    assert seen[0][:2] == (tmp_path, ["--threshold", "0.2"])
    assert [json.loads(line)["text"] for line in seen[0][2].splitlines()] == ["an [odd] text", "שלום 🙂"]
    lines = invoke(*words, "--json").output.splitlines()
    assert json.loads(lines[1]) == {
        "text": "שלום 🙂",
        "label": "red",
        "probability": 0.91,
        "exit_layer": 1,
        "entropy": 0.1,
    }


def test_predict_hands_a_wish_and_a_log_over_to_versions_that_know_them(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    answer = json.dumps({"text": "a", "label": "red", "probability": 0.9, "exit_layer": 1, "entropy": 0.1})
    monkeypatch.setattr(
        "kd_ops.serving.served.ServedModel.predict",
        lambda self, words, texts=None, costs=None: seen.append(words) or answer,
    )
    monkeypatch.chdir(tmp_path)
    words = ("predict", "--model", str(tmp_path), "--max-disagreement", "0.01", "--log", "log", "a")
    monkeypatch.setattr("kd_ops.serving.served.ServedModel.described", lambda self: Description("m", (1, 2)))
    assert invoke(*words).exit_code == 0
    assert seen == [["--max-disagreement", "0.01", "--log", str(tmp_path / "log")]], "the process runs elsewhere"
    assert isinstance(invoke(*words, "--threshold", "0.1").exception, ParamsError)
    for speed in (["--max-latency-ms", "3.0", "--percentile", "0.5"], ["--min-throughput", "2000.0"]):
        assert invoke("predict", "--model", str(tmp_path), *speed, "a").exit_code == 0
        assert seen[-1] == speed


def test_what_the_model_s_process_notes_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = subprocess.CompletedProcess([], 0, "answers\n", "a library's warning\nnote: at most 2.00% differ\n")
    monkeypatch.setattr("kd_ops.serving.served.subprocess.run", lambda *words, **options: done)
    assert ServedModel(tmp_path, tmp_path).predict([]) == "answers\n"
    assert capsys.readouterr().err == "note: at most 2.00% differ\n"


def test_predict_hands_a_file_s_columns_over(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        "kd_ops.serving.served.ServedModel.predict",
        lambda self, arguments, texts=None, costs=None: seen.append(arguments),
    )
    files = ("--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.csv"))
    result = invoke("predict", "--model", str(tmp_path), *files, "--column", "text=body", "--column", "text_pair=reply")
    assert result.exit_code == 0, result.output
    assert seen == [["--column", "text=body", "--column", "text_pair=reply", *files]]


@pytest.mark.parametrize(("recorded", "words"), [({}, []), ({"text": "text_pair"}, ["--column", "text=text"])])
def test_the_gate_s_own_columns_are_not_taken_for_the_training_data_s(
    tmp_path: Path, recorded: dict[str, str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions whose record knows no other names may come with code that does not know the option either."""
    described = Description("m", (1, 2), recorded)
    monkeypatch.setattr("kd_ops.serving.served.ServedModel.described", lambda self: described)
    assert ServedModel(tmp_path, tmp_path).as_named(["text"]) == words


def test_answers_in_the_terminal() -> None:
    rows = [
        {"text": "one", "label": ["blue", "red"], "probability": [0.9, 0.75], "exit_layer": 1},
        {"text": "two", "label": [], "probability": [], "exit_layer": 2},
    ]
    console = Console(file=io.StringIO(), width=100)
    console.print(predict._table(rows))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "blue, red" in shown
    assert "90.0%, 75.0%" in shown
