"""Texts of several units each: graphs ask about every unit, and a text leaves as a whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from kd_core.inference.all_exits import all_exits
from kd_core.inference.batches import encode
from kd_core.models.loading import load_tokenizer
from kd_core.models.student import StudentModel
from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.__main__ import main
from kd_core.serving.exits.outcomes import Exits, Predictions
from kd_core.serving.files import predict_file
from kd_core.serving.graphs.executor import Executor
from kd_core.serving.graphs.graphs import fed
from kd_core.serving.graphs.tokens import Tokens
from kd_core.serving.predictor import CHUNK_ROWS, Predictor
from kd_core.serving.speed.timing import measure_costs
from kd_core.tables.reading import read_table
from tests.helpers import digits
from tests.helpers.tiny_digits import LAYERS, TASK, digit_rows, exported_student

ROWS = digit_rows(61, seed=5)
OFFSETS = np.array([0, 2, 3])
"""Of a text of two words, and one of one."""
WORDS = [len(text.split()) for text in ROWS["text"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_student(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor.load(folder)


@pytest.fixture(scope="module")
def tokens(predictor: Predictor) -> Tokens:
    return predictor.tokens(ROWS)


@pytest.fixture(scope="module")
def exits(folder: Path) -> Exits:
    """In PyTorch."""
    tokenizer = load_tokenizer(folder)
    return all_exits(StudentModel.from_pretrained(folder), encode(ROWS, tokenizer, TASK), tokenizer.pad_token_id)


def middle(exits: Exits) -> tuple[float, ...]:
    """Thresholds at which every exit is used."""
    found = tuple(float(each) for each in np.quantile(exits.uncertainty[:, :-1], 0.41, axis=0))
    assert set(exits.simulate(found).exit_layer) == {1, 2, 3}
    return found


def same(found: Predictions, expected: Predictions) -> None:
    np.testing.assert_array_equal(found.exit_layer, expected.exit_layer)
    np.testing.assert_array_equal(found.units.offsets, expected.units.offsets)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-4)
    np.testing.assert_allclose(found.entropy, expected.entropy, atol=1e-4)


def test_graphs_answer_each_unit_as_pytorch_does(predictor: Predictor, tokens: Tokens, exits: Exits) -> None:
    found = predictor.executor.all_exits(tokens)
    assert exits.probabilities.shape == (sum(WORDS), LAYERS, len(digits.LABELS))
    assert exits.probabilities.std(0).max() > 0.1, "too flat to tell anything"
    np.testing.assert_allclose(found.probabilities, exits.probabilities, atol=1e-4)
    same(predictor.executor.answer(tokens, 0.0), exits.simulate(0.0))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch_tokens", [1, 40, 10_000])
def test_a_text_leaves_whole_and_whatever_its_company(
    predictor: Predictor, tokens: Tokens, exits: Exits, batch_tokens: int, threads: int
) -> None:
    limits = middle(exits)
    executor = Executor(predictor.executor.graphs, None, batch_tokens, threads)
    same(executor.answer(tokens, limits), exits.simulate(limits))


def test_answers_have_as_many_units_as_texts_have_words(predictor: Predictor) -> None:
    answers = predictor.predict(ROWS, probabilities=True)
    assert [len(label) for label in answers["label"]] == WORDS
    assert [len(each) for each in answers["probability"]] == WORDS
    assert [len(each) for each in answers["probability_3"]] == WORDS
    first = answers.iloc[0]
    assert first[f"probability_{first['label'][0]}"][0] == pytest.approx(first["probability"][0])


def test_words_that_were_cut_off_are_asked_about(predictor: Predictor) -> None:
    text = " ".join(["ab12"] * 30)
    assert predictor.tokens(pd.DataFrame({"text": [text]})).lengths.tolist() == [TASK.max_length]
    answers = predictor.predict([text, "ab12"])
    assert [len(label) for label in answers["label"]] == [30, 1]
    assert answers["label"][1] == predictor.predict(["ab12"])["label"][0]


def test_a_batch_is_bounded_by_units_where_they_are_more_than_tokens(predictor: Predictor) -> None:
    texts = pd.DataFrame({"text": [" ".join(["a"] * 900), "ab12 c3"]})
    tokens = predictor.tokens(texts)
    assert tokens.spans.tolist() == [900, tokens.lengths[1]]
    assert [len(each) for each in predictor.executor.batching.cut(tokens.spans)] == [1, 1]


def test_a_text_that_is_too_long_is_refused_by_its_row(predictor: Predictor) -> None:
    with pytest.raises(InvalidDataError, match=r"row 2 \(counted from 1\): a text of 300,000 characters; the model"):
        predictor.predict(["ab12", "a" * 300_000])


def test_large_requests_come_back_in_one_piece(predictor: Predictor) -> None:
    texts = ["ab12 c3", "d4"] * (CHUNK_ROWS // 2 + 1)
    found = predictor.predict_rows(texts)
    assert found.units.sizes.tolist() == [2, 1] * (CHUNK_ROWS // 2 + 1)
    last = Predictions(found.probabilities[-3:], found.exit_layer[-2:], found.entropy[-2:], found.kind, OFFSETS)
    same(last, predictor.predict_rows(texts[:2]))


def test_graphs_that_ask_for_more_than_is_known_are_refused(tokens: Tokens) -> None:
    feeds = tokens.unit_feeds(np.arange(2))
    assert sorted(fed(("word_starts", "unit_mask"), feeds)) == ["unit_mask", "word_starts"]
    with pytest.raises(InvalidDataError, match="the graphs take 'word_heads', which is not known of a text"):
        fed(("word_starts", "word_heads"), feeds)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_files_hold_a_list_for_each_text(predictor: Predictor, tmp_path: Path, suffix: str) -> None:
    ROWS[["text"]].to_csv(tmp_path / "texts.csv", index=False)
    target = tmp_path / f"answers.{suffix}"
    assert predict_file(predictor, tmp_path / "texts.csv", target, probabilities=True) == len(ROWS)
    found = read_table(target)
    cells = {name: [_parts(cell) for cell in found[name]] for name in ("label", "probability", "probability_0")}
    expected = predictor.predict(ROWS, probabilities=True)
    assert cells["label"] == expected["label"].tolist()
    for name in ("probability", "probability_0"):
        for cell, wanted in zip(cells[name], expected[name], strict=True):
            assert [float(each) for each in cell] == pytest.approx(wanted, abs=1e-6)


def _parts(cell: Any) -> tuple[Any, ...]:
    return tuple(cell.split("|") if isinstance(cell, str) else cell)


def test_the_door_answers_and_logs(folder: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", iter(['"ab12 c3"\n', '{"text": "d4"}\n']))
    assert main(["predict", "--model", str(folder), "--log", str(tmp_path / "log")]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(answer["label"]) for answer in answers] == [2, 1]
    (log,) = (tmp_path / "log").glob("*.parquet")
    assert pq.read_table(log).column("labels").to_pylist() == [answer["label"] for answer in answers]


def test_it_is_timed_with_units(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd_core.serving.speed.timing.SECONDS", 0.0)
    planned = predictor.planned_by(measure_costs(predictor))
    assert planned.predict_rows(ROWS, 0.0).units.sizes.tolist() == WORDS


def test_int8_keeps_the_layout(tmp_path: Path) -> None:
    small = Predictor.load(exported_student(tmp_path, quantise="static", min_agreement=0.0))
    assert small.record.precision == "int8 static"
    assert small.predict_rows(ROWS).units.sizes.tolist() == WORDS
