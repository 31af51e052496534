"""Quality on the test rows: every model, intervals, the gap only where there is one, slices, details."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from components import evaluate as component
from components.base import Context
from kd_core.config.evaluation import EvaluateParams
from kd_core.evaluation.quality import details, quality, slices
from kd_core.evaluation.quality.masked import compare, mask
from kd_core.evaluation.quality.quality import Answers
from kd_core.evaluation.statistics.intervals import Interval
from kd_core.rows import read_rows, rows_hash
from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.predictor import Predictor
from kd_core.tasks.units import Units
from tests.helpers.tiny import LABELS
from tests.helpers.tiny_exits import TASK
from tests.helpers.tiny_run import CHECKED, tiny_run

PARAMS = EvaluateParams(thresholds=(0.0, 0.5), resamples=300)
N = 400
KIND = "classification"


def answers_with(**accuracy: float) -> Answers:
    """Models that are right on the first rows, as many as their accuracy says; `teacher` stands for teacher:big."""
    targets = Units.one_a_row(np.zeros(N, dtype=np.int64))
    probabilities = {}
    for name, share in accuracy.items():
        right = np.arange(N) < round(share * N)
        probabilities[name.replace("teacher_", "teacher:")] = Units.one_a_row(
            np.stack([right, ~right], axis=1) * 0.8 + 0.1
        )
    return Answers(targets, np.array([f"g{n}" for n in range(N)]), probabilities, KIND)


def gap_of(answers: Answers) -> tuple[dict[str, Any] | None, str]:
    return quality.gap_closed(answers.best_teacher, quality.resampled(answers, PARAMS), PARAMS.confidence)


def differences_of(answers: Answers) -> dict[str, Interval]:
    return quality.differences(answers.best_teacher, quality.resampled(answers, PARAMS), PARAMS.confidence)


def test_gap_closed_where_there_is_a_gap() -> None:
    answers = answers_with(teacher_big=0.9, teacher_small=0.85, trunk=0.88, adaptive=0.86, alone=0.8)
    gap, sentence = gap_of(answers)
    assert gap is not None
    assert gap["value"] == pytest.approx(0.8)
    assert gap["adaptive"] == pytest.approx(0.6)
    assert gap["interval"][0] < 0.8 < gap["interval"][1]
    assert "80%" in sentence
    assert answers.best_teacher == "teacher:big"


@pytest.mark.parametrize(("teacher", "alone"), [(0.805, 0.8), (0.8, 0.8), (0.7, 0.8)])
def test_no_gap_is_reported_where_the_interval_holds_zero(teacher: float, alone: float) -> None:
    answers = answers_with(teacher_big=teacher, trunk=0.9, adaptive=0.9, alone=alone)
    if teacher == 0.805:  # two rows better, but the interval reaches zero
        low = differences_of(answers)["best_teacher_minus_alone"].low
        assert low < 0.0
    gap, reason = gap_of(answers)
    assert gap is None
    assert "no gap to close" in reason


def test_one_large_group_is_no_proof_of_a_gap() -> None:
    """The teacher's whole advantage lies within one group of near-duplicates."""
    spread = answers_with(teacher_big=0.85, trunk=0.84, adaptive=0.84, alone=0.8)
    groups = np.array(["one"] * 340 + list(map(str, range(60))))
    lumped = Answers(spread.targets, groups, spread.probabilities, KIND)
    assert gap_of(spread)[0] is not None
    assert gap_of(lumped)[0] is None


def test_four_rows_prove_no_gap_however_clear_they_are() -> None:
    clear, wrong = (Units.one_a_row([each] * 4) for each in ([0.9, 0.1], [0.1, 0.9]))
    models = {"teacher:big": clear, "trunk": clear, "adaptive": clear, "alone": wrong}
    few = Answers(Units.one_a_row(np.zeros(4, dtype=np.int64)), np.arange(4).astype(str), models, KIND)
    gap, reason = gap_of(few)
    assert gap is None
    assert "+100.0 points" in reason


def test_differences_are_named_for_what_they_are() -> None:
    answers = answers_with(teacher_big=0.9, trunk=0.88, adaptive=0.86, alone=0.8)
    found = {name: interval.value for name, interval in differences_of(answers).items()}
    expected = {
        "best_teacher_minus_alone": 0.1,
        "trunk_minus_alone": 0.08,
        "adaptive_minus_alone": 0.06,
        "trunk_minus_best_teacher": -0.02,
        "adaptive_minus_trunk": -0.02,
    }
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "label", "named"),
    [
        ("Calls the API Gateway now", "apigateway", True),
        ("Lists the records of a table.", "rds", False),
        ("Starts an RDS instance", "rds", True),
        ("the user pools of Cognito and its IDP", "cognito-idp", True),
        ("the user pools of Cognito", "cognito-idp", False),
        ("Amazon EC2-instances", "ec2", True),
        ("configures it", "config", False),
        ("", "config", False),
        ("anything", "–", False),
    ],
)
def test_a_text_names_its_label(text: str, label: str, named: bool) -> None:
    assert slices.label_in_text([text], [label]).tolist() == [named]


def test_slices_need_enough_rows_on_both_sides() -> None:
    rows = pd.DataFrame({"text": ["red apple"] * 150 + ["apple"] * 150, "label": ["red"] * 300})
    parts = slices.of_rows(rows)
    assert {name: int(mask.sum()) for name, mask in parts.items()} == {"label_in_text": 150, "label_not_in_text": 150}
    assert slices.of_rows(rows.iloc[60:]) == {}


NAMES = {"api": ["amazon api", "amazon api gateway", "api gateway", "apigateway"], "rds": ["rds"], "none": []}


@pytest.mark.parametrize(
    ("text", "label", "masked"),
    [
        ("Creates an API Gateway stage.", "api", "Creates an it stage."),
        ("Amazon API-Gateway's APIGateway", "api", "it's it"),
        ("Lists records of RDS.", "rds", "Lists records of it."),
        ("Moves RDS data to API Gateway", "api", "Moves RDS data to it"),
        ("Lists the gateways of an API", "api", None),
        ("Lists records", "rds", None),
        ("none of it", "none", None),
        ("Starts RDS", "unknown", None),
    ],
)
def test_the_names_of_a_text_s_own_label_are_masked(text: str, label: str, masked: str | None) -> None:
    rows = pd.DataFrame({"id": ["1", "2"], "text": [text, "nothing"], "label": [label, "rds"]})
    copy, changed = mask(rows, NAMES)
    assert changed.tolist() == [masked is not None, False]
    assert copy["text"].tolist() == ([] if masked is None else [masked])
    pairs, _ = mask(rows.assign(text_pair=["x", "RDS"]), NAMES)
    assert pairs["text_pair"].tolist()[-1] == "it"
    assert rows["text"].tolist() == [text, "nothing"], "a copy"


def test_what_masking_costs_is_told_over_all_rows_and_over_those_it_touches() -> None:
    answers = answers_with(trunk=0.8)
    changed = np.arange(N) < 100
    after = np.stack([np.arange(100) < 30, np.arange(100) >= 30], axis=1) * 1.0
    found = compare(answers, changed, {"trunk": Units.one_a_row(after)}, PARAMS)
    assert (found["rows"], found["changed"]) == (N, 100)
    numbers = found["models"]["trunk"]
    assert (numbers["changed"], numbers["changed_masked"]) == (1.0, 0.3)
    assert numbers["accuracy"] == pytest.approx((30 + 220) / N)
    low, high = numbers["accuracy_interval"]
    assert low < numbers["accuracy"] < high
    assert answers.counts("trunk").sum(0).tolist() == [0.8 * N, N], "the answers to the rows as they are stay"


def test_confusion_ranks_the_worst_classes() -> None:
    targets = np.array([0] * 4 + [1] * 4 + [2] * 2)
    predicted = np.array([0, 0, 0, 0, 2, 2, 0, 1, 2, 0])
    models = {"m": Units.one_a_row(np.eye(3)[predicted])}
    found = details.confusion(Answers(Units.one_a_row(targets), targets.astype(str), models, KIND), "m", "abc")
    assert [(c["label"], c["recall"]) for c in found["classes"]] == [("b", 0.25), ("c", 0.5), ("a", 1.0)]
    assert found["mistakes"][0] == {"rows": 2, "label": "b", "predicted": "c"}
    assert found["matrix"] == [[4, 0, 0], [1, 1, 2], [1, 0, 1]]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny_run(tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("scratch"))
    params = {"evaluate": PARAMS.model_dump(mode="json"), "data": {"reference": {"task": TASK.model_dump(mode="json")}}}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    context = Context(component.COMPONENT, {}, root)
    component.main(context)
    context.check_outputs()
    return root


def test_every_model_is_evaluated(evaluated: Path) -> None:
    found = json.loads((evaluated / "evaluation/metrics.json").read_text())
    expected = {"teacher:big", "teacher:small", "trunk", "branch:1", "branch:2", "adaptive", "alone", "frozen", "tfidf"}
    assert set(found["models"]) == expected | {"adaptive@0", "adaptive@0.5"}
    for numbers in found["models"].values():
        assert set(numbers) == {"accuracy", "macro_f1", "log_loss", "ece", "accuracy_interval"}
        low, high = numbers["accuracy_interval"]
        assert low <= numbers["accuracy"] <= high
    assert found["models"]["adaptive@0"] == found["models"]["trunk"]
    rows = read_rows(evaluated / CHECKED / "test.parquet")
    assert found["test"] == {"rows": 240, "hash": rows_hash(rows)}
    assert sum(found["exits"].values()) == pytest.approx(1.0, abs=1e-5)
    assert found["best_teacher"] in {"teacher:big", "teacher:small"}


def test_every_model_answers_the_masked_copy(evaluated: Path) -> None:
    found = json.loads((evaluated / "evaluation/metrics.json").read_text())
    masked = found["masked"]
    assert set(masked["models"]) == {"teacher:big", "teacher:small", "trunk", "adaptive", "alone", "frozen", "tfidf"}
    rows = read_rows(evaluated / CHECKED / "test.parquet")
    assert (masked["rows"], masked["changed"]) == (240, int((rows["label"] != "blue").sum()))
    copy = rows.assign(text=rows["text"].str.replace(r"\b(apple|the river|river)\b", "it", regex=True))
    served = Predictor.load(evaluated / "models/student").predict(copy)["label"]
    assert masked["models"]["adaptive"]["accuracy"] == pytest.approx((served == rows["label"]).mean(), abs=1e-6)


def test_a_source_without_names_has_no_masked_copy(evaluated: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(evaluated, again, ignore=shutil.ignore_patterns("evaluation"))
    (again / CHECKED / "dataset.json").write_text(json.dumps({"label_names": {}}))
    component.main(Context(component.COMPONENT, {}, again))
    assert "masked" not in json.loads((again / "evaluation/metrics.json").read_text())


def test_examples_are_the_rows_behind_the_numbers(evaluated: Path) -> None:
    found = json.loads((evaluated / "evaluation/metrics.json").read_text())
    examples = pd.read_parquet(evaluated / "evaluation/details/examples.parquet")
    rows = read_rows(evaluated / CHECKED / "test.parquet")
    assert examples["id"].tolist() == rows["id"].tolist()
    assert examples["group"].tolist() == rows["group"].tolist()
    for model, numbers in found["models"].items():
        counts = np.stack(examples[f"{model}/counts"])
        assert counts[:, 0].mean() == pytest.approx(numbers["accuracy"], abs=1e-6)
        assert (counts == np.stack([examples[model] == examples["label"], np.ones(len(rows))], axis=1)).all()
    student = Predictor.load(evaluated / "models/student")
    served = student.predict(rows)
    assert examples["adaptive"].tolist() == served["label"].tolist()
    assert examples["exit_layer"].tolist() == served["exit_layer"].tolist()
    assert 0 < found["disagreement"] == pytest.approx((examples["adaptive"] != examples["trunk"]).mean(), abs=1e-6)
    assert set(examples["adaptive"]) <= set(LABELS)


def test_details_hold_what_pictures_need(evaluated: Path) -> None:
    folder = evaluated / "evaluation/details"
    curve = json.loads((folder / "curve.json").read_text())
    thresholds = [point["threshold"] for point in curve["points"]]
    assert thresholds == sorted(thresholds)
    assert {0.0, 0.5, 1.0} <= set(thresholds)
    assert len(curve["thresholds"]) == 2
    assert curve["points"][0]["mean_layers"] == curve["layers"][-1] == 3
    exits = json.loads((folder / "exits.json").read_text())
    assert exits["0"] == {"1": 0.0, "2": 0.0, "3": 1.0}
    found = json.loads((evaluated / "evaluation/metrics.json").read_text())
    assert exits["chosen"] == found["exits"]
    reliability = json.loads((folder / "reliability.json").read_text())
    assert sum(reliability["trunk"]["rows"]) == 240


def test_evaluating_twice_writes_the_same_bytes(evaluated: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(evaluated, again, ignore=shutil.ignore_patterns("evaluation"))
    component.main(Context(component.COMPONENT, {}, again))
    for file in sorted(path for path in (evaluated / "evaluation").rglob("*") if path.is_file()):
        assert file.read_bytes() == (again / file.relative_to(evaluated)).read_bytes(), file.name


def test_no_teacher_of_the_task_is_an_error(evaluated: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(evaluated, broken)
    for name in ("big", "small"):
        shutil.rmtree(broken / "teachers" / name)
    with pytest.raises(InvalidDataError, match="no teacher of the reference task"):
        component.main(Context(component.COMPONENT, {}, broken))
