"""What a trained student must be able to do: minimum functionality, invariance, direction, sensible exits.

The student is trained here, in seconds, by the same stages as in a run: fine-tuning, then branches, then export. In its
toy task a text's label is decided by one topic word among filler.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kd_core.config.data import TaskParams
from kd_core.config.evaluation import ExportParams
from kd_core.config.student import StudentParams
from kd_core.config.training import FinetuneParams, Optimisation, SelfDistillParams
from kd_core.export.stage import export
from kd_core.models.new_student import new_student
from kd_core.rows import write_rows
from kd_core.runtime.progress import Progress
from kd_core.serving.predictor import Predictor
from tests.helpers.one_unit import finetune, self_distill
from tests.helpers.tiny import FILLER, LABELS, TOPICS, tiny_base, tiny_rows, tiny_tokenizer

TASK = TaskParams(kind="classification", labels=LABELS, max_length=32)
PROMISE = ExportParams(max_disagreement=0.05, confidence=0.95)
TOPIC_OF = dict(zip(LABELS, TOPICS, strict=False))


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("trained")
    tokenizer, progress = tiny_tokenizer(), Progress("test")
    params = StudentParams(base="", layers=3, hidden=32, heads=4, intermediate=64)
    model = new_student(params, {"gold": LABELS}, LABELS, tiny_base(folder / "base", hidden=32), "classification")
    rows, valid = tiny_rows(240, seed=1), tiny_rows(90, seed=2)
    optimisation = Optimisation(epochs=6, learning_rate=3e-3, batch_tokens=256)
    finetune(model, tokenizer, rows, {}, valid, TASK, FinetuneParams(teachers=(), optimisation=optimisation), progress)
    branches = SelfDistillParams(optimisation=Optimisation(epochs=12, learning_rate=5e-3, batch_tokens=512), width=16)
    self_distill(model, tokenizer, tiny_rows(240, labels=None, seed=3), TASK, branches, progress)
    model.save_pretrained(folder / "self_distill")
    tiny_tokenizer().save_pretrained(folder / "self_distill")
    write_rows(folder / "calibration.parquet", tiny_rows(600, labels=None, seed=4))
    export(folder / "self_distill", folder / "calibration.parquet", folder / "student", TASK, PROMISE)
    return Predictor.load(folder / "student")


@pytest.fixture(scope="module")
def fresh() -> pd.DataFrame:
    """Rows that the student has not seen."""
    return tiny_rows(150, seed=9)


def accuracy(student: Predictor, rows: pd.DataFrame, threshold: float | None = None) -> float:
    return float((student.predict(rows, threshold)["label"].to_numpy() == rows["label"].to_numpy()).mean())


def test_minimum_functionality_beats_the_majority_class(student: Predictor, fresh: pd.DataFrame) -> None:
    majority = fresh["label"].value_counts(normalize=True).max()
    assert accuracy(student, fresh, threshold=0.0) > max(0.9, majority)


@pytest.mark.parametrize("label", LABELS)
def test_minimum_functionality_plain_texts(student: Predictor, label: str) -> None:
    topic = TOPIC_OF[label]
    texts = [f"the {topic}", f"gets a small {topic} near my", f"list of {topic} with the blue one"]
    assert set(student.predict(texts)["label"]) == {label}


def test_early_exits_keep_what_was_promised(student: Predictor, fresh: pd.DataFrame) -> None:
    early, full = student.predict(fresh), student.predict(fresh, threshold=0.0)
    assert (early["label"] != full["label"]).mean() <= 0.05 + 0.03, "the promise, and luck of 150 rows"
    assert (early["exit_layer"] < student.record.exits[-1]).any()


def test_a_looser_wish_is_never_slower(student: Predictor, fresh: pd.DataFrame) -> None:
    layers = [
        student.predict(fresh, student.limits(max_disagreement=wish))["exit_layer"].mean()
        for wish in (0.0, 0.02, 0.05, 0.3, 1.0)
    ]
    assert layers == sorted(layers, reverse=True)
    assert layers[0] == student.record.exits[-1] > layers[-1]


@pytest.mark.parametrize(
    "change", [str.upper, str.title, lambda text: f"  {text}\t", lambda text: text.replace(" ", "   ")]
)
def test_invariance_to_case_and_white_space(student: Predictor, fresh: pd.DataFrame, change: object) -> None:
    changed = fresh.assign(text=fresh["text"].map(change))
    pd.testing.assert_frame_equal(student.predict(fresh), student.predict(changed), atol=1e-5)


def test_invariance_to_the_company_of_a_text(student: Predictor, fresh: pd.DataFrame) -> None:
    """Alone, in another order, or between long and strange texts: a text gets the same answer from the same exit."""
    expected = student.predict(fresh)
    order = np.random.default_rng(0).permutation(len(fresh))
    shuffled = student.predict(fresh.iloc[order])
    pd.testing.assert_frame_equal(expected, shuffled.sort_index(), atol=1e-5)
    crowd = [*fresh["text"].head(5), "stone " * 500, "🙂", "x"]
    pd.testing.assert_frame_equal(expected.head(5), student.predict(crowd).head(5), atol=1e-5)
    alone = pd.concat([student.predict([text]) for text in fresh["text"].head(5)], ignore_index=True)
    pd.testing.assert_frame_equal(expected.head(5), alone, atol=1e-5)


def test_invariance_to_filler(student: Predictor, fresh: pd.DataFrame) -> None:
    """Another word where the label does not stand leaves nearly every answer as it was."""
    generator = np.random.default_rng(1)

    def refill(text: str) -> str:
        return " ".join(word if word in TOPICS else str(generator.choice(FILLER)) for word in text.split())

    before, after = student.predict(fresh), student.predict(fresh.assign(text=fresh["text"].map(refill)))
    assert (before["label"] == after["label"]).mean() > 0.9


def test_direction_of_another_topic(student: Predictor, fresh: pd.DataFrame) -> None:
    """Putting another label's topic into the text moves the answer to that label."""
    following = dict(zip(LABELS, [*LABELS[1:], LABELS[0]], strict=True))
    moved = [
        text.replace(TOPIC_OF[label], TOPIC_OF[following[label]])
        for text, label in zip(fresh["text"], fresh["label"], strict=True)
    ]
    answers = student.predict(moved)["label"].tolist()
    assert np.mean([answer == following[label] for answer, label in zip(answers, fresh["label"], strict=True)]) > 0.9


def test_direction_of_uncertainty(student: Predictor, fresh: pd.DataFrame) -> None:
    """Without any topic the full model is less certain than with one."""
    empty = fresh["text"].map(lambda text: " ".join(word for word in text.split() if word not in TOPICS))
    with_topic = student.predict(fresh, threshold=0.0)["entropy"].mean()
    assert student.predict(fresh.assign(text=empty), threshold=0.0)["entropy"].mean() > with_topic


def test_a_higher_threshold_is_faster_and_still_useful(student: Predictor, fresh: pd.DataFrame) -> None:
    layers = [student.predict(fresh, threshold)["exit_layer"].mean() for threshold in (0.0, 0.1, 0.4, 1.0)]
    assert layers == sorted(layers, reverse=True)
    assert layers[0] == student.record.exits[-1] > layers[-1]
    assert accuracy(student, fresh, threshold=1.0) > 1 / len(LABELS) + 0.1


def test_certain_answers_are_right_more_often(student: Predictor, fresh: pd.DataFrame) -> None:
    exits = student.predict(fresh, threshold=1.0)
    right = exits["label"].to_numpy() == fresh["label"].to_numpy()
    certain = exits["entropy"].to_numpy() <= np.median(exits["entropy"])
    assert right[certain].mean() >= right[~certain].mean()
