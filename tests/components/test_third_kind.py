"""A kind of task of a test's own goes through the stages, and no line of them knows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from kd_core.config.data import TaskParams
from kd_core.config.evaluation import EvaluateParams, GateParams
from kd_core.distill.finetune import combined_answer
from kd_core.evaluation.quality import details, quality
from kd_core.evaluation.quality.answers import of_baseline, of_student, of_teacher
from kd_core.evaluation.quality.quality import Answers
from kd_core.inference.asking import ask
from kd_core.inference.batches import encode
from kd_core.models.loading import load_tokenizer
from kd_core.models.student import StudentModel
from kd_core.rows import read_rows
from kd_core.tasks import decide
from kd_core.tasks.encode import of as encode_of
from kd_core.teachers.model import Teacher
from kd_ops.promotion.evidence import Champion, JudgedRows, Measured, Speed, Verdict
from kd_ops.promotion.gate import decide as decide_on
from tests.helpers import digits
from tests.helpers.tiny import tiny_base
from tests.helpers.tiny_multi_label_run import component, training

ROLES = ("reference", "pretraining")
digits.register()
TASK = TaskParams(kind=digits.KIND, labels=digits.LABELS, max_length=24)


def params() -> dict[str, Any]:
    teacher = {"weights": "base", "data": "reference", "fine_tune": training(8)}
    source = {"kind": "files", "path": "labelled.csv"}
    task = {"kind": digits.KIND, "labels": list(digits.LABELS), "max_length": 24}
    split = {"train": 150, "valid": 60, "calibration": 20, "test": 60}
    plain = {key: value for key, value in training(2).items() if key != "patience"}
    return {
        "recipe": "digits",
        "data": {
            "reference": {"task": task, "source": source, "split": split},
            "pretraining": {"task": None, "source": {**source, "path": "texts.csv"}},
        },
        "teachers": {"deep": teacher, "shallow": {**teacher, "layers": [0]}},
        "student": {"base": "base", "layers": 2, "hidden": 24, "heads": 2, "combine": "probabilities", "seed": 0},
        "pretrain": {"teachers": ["deep", "shallow"], "live_teacher": "none", "optimisation": training(6)},
        "finetune": {"teachers": ["deep", "shallow"], "decoders": "per_teacher", "optimisation": training(10),
                     "teacher_weights": "validation_loss", "decoder_weights": "fitted"},
        "self_distill": {"width": 16, "optimisation": plain},
        "baseline": {"optimisation": training(2)},
    }  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which every stage that trains has run."""
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny_base(folder / "base", layers=2, tokenizer=digits.tokenizer())
        digits.rows(330, seed=1).to_csv("labelled.csv", index=False)
        digits.rows(120, seed=2)[["text"]].to_csv("texts.csv", index=False)
        Path("params.yaml").write_text(yaml.safe_dump(params()))
        for stage in ("ingest", "validate"):
            for role in ROLES:
                component(stage, role=role)
        for name in ("deep", "shallow"):
            component("teach", teacher=name)
            for role in ROLES:
                component(f"score_{role}", teacher=name)
        for stage in ("pretrain", "update", "finetune", "self_distill", "baseline"):
            component(stage)
    return folder


def test_labels_go_through_ingest_and_validate(root: Path) -> None:
    rows = read_rows(root / "data/checked/reference/train.parquet")
    for text, label in zip(rows["text"], rows["label"], strict=True):
        assert label == tuple(str(sum(letter.isdigit() for letter in word)) for word in text.split())


def test_scores_have_as_many_units_as_texts_have_words(root: Path) -> None:
    rows = read_rows(root / "data/checked/reference/train.parquet").set_index("id")
    table = pq.read_table(root / "scores/reference/deep/scores.parquet").to_pylist()
    scored = [row for row in table if row["split"] == "train"]
    assert all(len(row["logits"]) == 5 * len(rows.loc[row["id"], "text"].split()) for row in scored)
    assert json.loads((root / "scores/reference/deep/scores.json").read_text())["kind"] == digits.KIND


def test_every_model_knows_its_kind(root: Path) -> None:
    for name in ("pretrain", "update", "finetune", "self_distill", "alone"):
        model = StudentModel.from_pretrained(root / "models" / name)
        assert model.config.kind == digits.KIND, name
        assert list(model.branches) == (["1"] if name == "self_distill" else [])
    assert json.loads((root / "teachers/deep/config.json").read_text())["kd_kind"] == digits.KIND


def test_the_teacher_s_contract_and_the_curves_go_by_its_own_metric(root: Path) -> None:
    assert json.loads((root / "teachers/deep/teacher.json").read_text())["contract"]["gold_word_accuracy"] > 0.6
    curves = json.loads((root / "models/finetune/history.json").read_text())["curves"]
    assert max(value for _, value in curves["valid_word_accuracy"]) > 0.5


def test_the_student_answers_each_word(root: Path) -> None:
    folder, rows = root / "models/self_distill", read_rows(root / "data/checked/reference/test.parquet")
    model, tokenizer = StudentModel.from_pretrained(folder), load_tokenizer(folder)
    encoded, kind = encode(rows, tokenizer, TASK), decide.of(digits.KIND)
    found = kind.decisions(ask(model, combined_answer(model), encoded, tokenizer.pad_token_id))
    sums = kind.counts(found, encoded.targets).sum(0)
    words = [len(text.split()) for text in rows["text"]]
    assert found.sizes.tolist() == words
    assert sums[1] == sum(words)
    assert float(kind.metric(sums)) == pytest.approx(np.mean(found.values == encoded.targets.values))
    assert float(kind.metric(sums)) > 0.5, "by chance a fifth"
    answers = kind.named(found, digits.LABELS)
    assert [len(answer) for answer in answers] == words


@pytest.fixture(scope="module")
def answers(root: Path) -> Answers:
    """What evaluate asks of the models, a student with its last exit only."""
    rows = read_rows(root / "data/checked/reference/test.parquet")
    exits = of_student(root / "models/self_distill", rows, TASK)
    alone = of_student(root / "models/alone", rows, TASK)
    found = {
        "teacher:deep": of_teacher(Teacher.load(root / "teachers/deep"), rows, TASK),
        "trunk": exits.only(exits.layers[-1]),
        "adaptive": exits.simulate(0.0).units,
        "alone": alone.only(alone.layers[-1]),
        "tfidf": of_baseline(root / "models/tfidf", rows, TASK),
    }
    return Answers(encode_of(TASK.kind).targets(rows, TASK), rows["group"].to_numpy(str), found, TASK.kind)


def test_the_evaluation_goes_by_words(answers: Answers) -> None:
    params = EvaluateParams(thresholds=(0.0,), resamples=100)
    found = quality.of_models(answers, quality.resampled(answers, params), params.confidence)
    for name, numbers in found.items():
        right = answers.probabilities[name].values.argmax(-1) == answers.targets.values
        assert numbers["word_accuracy"] == pytest.approx(right.mean()), name
        low, high = numbers["word_accuracy_interval"]
        assert low <= numbers["word_accuracy"] <= high
    assert found["trunk"] == found["adaptive"]
    confusion = details.confusion(answers, "trunk", digits.LABELS)
    assert np.sum(confusion["matrix"]) == len(answers.targets.values), "every word is one decision"
    bins = details.reliability(answers, ["trunk"])["trunk"]
    assert sum(bins["rows"]) == len(answers.targets.values)


def test_every_text_of_an_exit_is_asked_whole(root: Path) -> None:
    """The uncertainty of a text is that of all its words, and they leave together."""
    rows = read_rows(root / "data/checked/reference/test.parquet")
    exits = of_student(root / "models/self_distill", rows, TASK)
    assert exits.uncertainty.shape == (len(rows), len(exits.layers))
    assert exits.simulate(1.0).exit_layer.shape == (len(rows),)
    assert exits.simulate(1.0).answers.sizes.tolist() == [len(text.split()) for text in rows["text"]]


def test_the_gate_compares_ratios_of_sums(answers: Answers) -> None:
    gate = GateParams(min_accuracy=0.1, min_share_of_best_teacher=0.5, margin=0.01)
    speed = Speed(2.0, 0.5, "here")
    counts, old = (np.tile(answers.counts(name), (2, 1)) for name in ("trunk", "tfidf"))  # the gate wants 100 rows
    value = float(answers.metric(counts.sum(0)))
    model = Measured("new", digits.LABELS, value, value, 5.0, speed, digits.KIND, "words counted rightly")
    worse = Champion("1", "old", digits.LABELS, old, speed, digits.KIND)
    decision = decide_on(gate, model, JudgedRows(counts, np.arange(len(counts)).astype(str), answers.metric), worse)
    assert decision.verdict is Verdict.PROMOTE
    before = float(answers.metric(old.sum(0)))
    assert decision.numbers["difference"] == pytest.approx(value - before)
