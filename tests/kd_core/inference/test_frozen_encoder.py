"""The frozen base with a logistic regression: its features, its answers, kinds of tasks, pairs, and damaged folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from kd_core.config.data import MULTI_LABEL, TaskParams
from kd_core.inference.frozen_encoder import FrozenEncoder, features, fit, is_frozen_encoder
from kd_core.models.loading import load_encoder, load_tokenizer
from kd_core.runtime.errors import InvalidDataError
from kd_core.tasks import decide, encode
from tests.helpers.tiny import ARCHITECTURES, LABELS, TOKENIZERS, tiny_base, tiny_rows, tiny_task, tiny_tokenizer
from tests.helpers.tiny_multi_label import multi_label_rows


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"), layers=2)


def share_right(model: FrozenEncoder, rows: object, task: TaskParams) -> float:
    kind = decide.of(task.kind)
    gold = encode.of(task.kind).targets(rows, task)  # type: ignore[arg-type]
    answers = model.answer(rows, task)  # type: ignore[arg-type]
    return float(kind.metric(kind.counts(kind.decisions(answers), gold).sum(0)))


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "modernbert"])
def test_features_are_the_mean_of_the_last_states(architecture: str, tmp_path: Path) -> None:
    """As transformers' own forward gives them, without padding."""
    assert architecture in {*ARCHITECTURES, "bert", "distilbert"}
    tokenizer = TOKENIZERS.get(architecture, tiny_tokenizer)()
    folder = tiny_base(tmp_path / "base", layers=2, model_type=architecture, tokenizer=tokenizer)
    rows, task = tiny_rows(20), tiny_task()
    found = features(load_encoder(folder), load_tokenizer(folder), rows, task).values
    model, theirs = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    for row, text in enumerate(rows["text"]):
        asked = theirs(text, return_tensors="pt")
        taken = {name: asked[name] for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            expected = model(**taken).last_hidden_state[0].mean(0).numpy()
        np.testing.assert_allclose(found[row], expected, atol=1e-4)


def test_it_learns_what_the_states_tell_and_survives_the_disk(base: Path, tmp_path: Path) -> None:
    task = tiny_task()
    model = fit(base, tiny_rows(300, seed=1), task)
    test = tiny_rows(90, seed=2)
    assert share_right(model, test, task) > 0.8, "by chance a third"
    model.save(tmp_path / "frozen")
    assert is_frozen_encoder(tmp_path / "frozen")
    loaded = FrozenEncoder.load(tmp_path / "frozen")
    np.testing.assert_array_equal(model.answer(test, task).values, loaded.answer(test, task).values)
    np.testing.assert_allclose(loaded.answer(test, task).values.sum(1), 1, atol=1e-5)


def test_the_encoder_stays_as_it_is(base: Path, tmp_path: Path) -> None:
    fit(base, tiny_rows(60), tiny_task()).save(tmp_path)
    kept, given = (AutoModel.from_pretrained(each).state_dict() for each in (tmp_path / "encoder", base))
    assert all(torch.equal(kept[name], given[name]) for name in given)


def test_a_pair_has_both_texts_their_distance_and_their_product(base: Path) -> None:
    task = tiny_task(pair=True)
    rows = tiny_rows(30, pair=True)
    encoder, tokenizer = load_encoder(base), load_tokenizer(base)
    found = features(encoder, tokenizer, rows, task).values
    one, two = (
        features(encoder, tokenizer, rows.assign(text=rows[name]), tiny_task()).values for name in ("text", "text_pair")
    )
    np.testing.assert_allclose(found, np.concatenate([one, two, abs(one - two), one * two], axis=1))
    assert share_right(fit(base, tiny_rows(300, pair=True, seed=1), task), tiny_rows(90, pair=True, seed=2), task) > 0.8


def test_several_labels_a_row(base: Path) -> None:
    rows = multi_label_rows(300)
    labels = tuple(sorted({label for row in rows["label"] for label in row}))
    task = TaskParams(kind=MULTI_LABEL, labels=(*labels, "never"), max_length=24)
    model = fit(base, rows, task)
    answers = model.answer(rows, task).values
    assert answers.shape == (300, len(labels) + 1)
    assert answers[:, -1].max() == 0
    assert share_right(model, rows, task) > 0.8


def test_a_label_without_rows_is_never_answered(base: Path) -> None:
    task = tiny_task((*LABELS, "grey"))
    answers = fit(base, tiny_rows(90), task).answer(tiny_rows(30), task).values
    assert answers[:, -1].max() == 0


def test_what_cannot_be_fitted_or_read(base: Path, tmp_path: Path) -> None:
    rows = tiny_rows(30)
    with pytest.raises(InvalidDataError, match="at least two classes"):
        fit(base, rows.assign(label="red"), tiny_task())
    with pytest.raises(InvalidDataError, match="no readable regression"):
        FrozenEncoder.load(tmp_path)
    model = fit(base, rows, tiny_task())
    with pytest.raises(InvalidDataError, match="fitted for other labels"):
        model.answer(rows, tiny_task(("red", "green")))
    model.save(tmp_path)
    (tmp_path / "linear.safetensors").write_bytes(b"damaged")
    with pytest.raises(InvalidDataError, match="no readable regression"):
        FrozenEncoder.load(tmp_path)
