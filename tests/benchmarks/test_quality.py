"""The comparison of distillation with its baselines, on a toy task: what is computed, how often, and what is said."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from benchmarks import arms, quality, workbench
from benchmarks.arms import Arm, Setting
from benchmarks.predictions import Predictions
from benchmarks.progress import Board
from benchmarks.workbench import Workbench
from kd_ops.base.settings import PROJECT
from kd_ops.resolving.merge import merged_params
from tests.helpers.tiny import count_texts, tiny_base
from tests.helpers.tiny_project import optimisation, recipe, toy_rows

pytestmark = pytest.mark.slow

ARMS = "alone,tfidf,one_o_one,m_o_m,mkd,tmkd,tmkd:finetune.decoder_weights=fitted"
TRAIN = 90
TEXTS = 120


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe of a toy task."""
    folder = tmp_path_factory.mktemp("toy")
    tiny_base(folder / "base", layers=2, hidden=16)
    toy_rows(400, seed=1).to_csv(folder / "labelled.csv", index=False)
    toy_rows(TEXTS, seed=2, labelled=False)[["sentence"]].to_csv(folder / "texts.csv", index=False)
    values = recipe(folder) | {"recipe": "toy"}
    values["data"]["reference"]["split"] = {"train": TRAIN, "valid": 60, "calibration": 30, "test": 120}
    for teacher in values["teachers"].values():
        teacher["fine_tune"] = optimisation(2, seed=1)
    values["pretrain"]["optimisation"] = values["baseline"]["optimisation"] = optimisation(1, patience=None)
    values["finetune"] = {"teachers": ["deep", "shallow"], "optimisation": optimisation(1, patience=None)}
    values["self_distill"] = {"width": 8, "optimisation": optimisation(1)}
    (folder / "toy.yaml").write_text(yaml.safe_dump(values))
    return folder


def words(root: Path, *more: str) -> list[str]:
    short = ["-S", "finetune.optimisation.epochs=1", "-S", "finetune.optimisation.patience=null"]
    where = ["--data", str(root / "toy.yaml"), "--work", str(root / "work"), "--resamples", "200"]
    exits = ["--exits", "tmkd,tmkd+self_attention"]
    return [*where, "--variants", ARMS, "--seeds", "1,2", *exits, "--reference", "mkd", *short, *more]


@pytest.fixture(scope="module")
def first(root: Path) -> tuple[dict[str, Any], Counter[str], Counter[str]]:
    """The first call: its result, the texts that each teacher was asked about, the stages that were computed."""
    computed: Counter[str] = Counter()
    call = workbench._call

    def count_stages(command: str) -> None:
        computed[" ".join(command.split()[2:])] += 1
        call(command)

    with pytest.MonkeyPatch.context() as patch:
        asked = count_texts(patch)
        patch.setattr(workbench, "_call", count_stages)
        assert quality.main(words(root)) == 0
    result = json.loads((root / "work" / "results" / "toy-recipe.json").read_text())
    return result, asked, computed


def test_teachers_are_trained_and_asked_once_for_all_arms_and_seeds(first: Any, root: Path) -> None:
    _, asked, computed = first
    counts = first[0]["results"][0]["data"]["counts"]
    texts = counts["train"] + counts["valid"] + counts["unlabelled"] + TEXTS
    assert asked == {"deep": texts, "shallow": texts}
    assert computed["components.teach deep"] == computed["components.teach shallow"] == 1
    assert computed["components.score_reference deep"] == computed["components.score_pretraining shallow"] == 1
    assert computed["components.validate reference"] == 1


def test_stages_that_arms_have_in_common_are_computed_once_a_seed(first: Any) -> None:
    _, _, computed = first
    # An untrained student for all arms without stage one, one pre-trained by both teachers, with and without
    # self-attention distillation; two seeds of each.
    assert computed["components.pretrain"] == 6
    # alone, one_o_one with each teacher, mkd, tmkd, with fitted weights, with self-attention: two seeds of each.
    assert computed["components.finetune"] == 14
    assert computed["components.self_distill"] == computed["components.export"] == 4
    assert computed["components.baseline"] == 1


def test_a_second_call_computes_nothing(
    first: Any, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(command: str) -> None:
        raise AssertionError(f"computed again: {command}")

    monkeypatch.setattr(workbench, "_call", refuse)
    monkeypatch.setattr("benchmarks.predictions._answers", refuse)
    assert quality.main(words(root)) == 0
    again = json.loads((root / "work" / "results" / "toy-recipe.json").read_text())
    assert again == first[0]
    assert "## toy, all labels a class" in capsys.readouterr().out


def test_what_is_said(first: Any, root: Path) -> None:
    result = first[0]["results"][0]
    lines = {line["name"]: line for line in result["lines"]}
    exits = {"tmkd with exits", "tmkd+self_attention with exits"}
    assert set(lines) == {"teacher deep", "teacher shallow", *ARMS.split(","), *exits}
    assert (lines["m_o_m"]["students"], lines["tmkd"]["students"], lines["tfidf"]["students"]) == (2, 1, 0)
    assert lines["tmkd"]["minus_reference"] is not None
    assert lines["mkd"]["minus_reference"] is None
    assert {"tmkd > mkd", "mkd ≥ m_o_m", "tmkd ≥ 99% of best teacher"} <= {f["claim"] for f in result["findings"]}
    assert "tmkd+self_attention with exits ≥ tmkd with exits" in {f["claim"] for f in result["findings"]}
    for table in result["exits"].values():
        assert set(table["accuracy"]) == {"1", "2"}
        assert sum(table["shares"].values()) == pytest.approx(1.0)
        assert 1.0 <= table["mean_layers"] <= 2.0
    for line in lines.values():
        for file in line["files"]:
            table = pd.read_parquet(file)
            assert len(table) == result["data"]["counts"]["test"]
            assert len(table["probabilities"].iloc[0]) == 3
    assert len(lines["m_o_m"]["files"]) == 4
    markdown = (root / "work" / "results" / "toy-recipe.md").read_text()
    assert "python -m benchmarks.quality" in markdown
    assert result["data"]["hash"][:16] in markdown


def test_m_students_answer_with_the_mean_of_their_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    """One teacher each, the first one sure and wrong, the others right: together they are right."""
    answers = {"a": [[0.6, 0.4]], "b": [[0.2, 0.8]], "c": [[0.4, 0.6]]}
    asked: list[str] = []

    def run(setting: Setting, arm: Arm, seed: int, targets: list[str], *more: str) -> Any:
        params = {"finetune": {"teachers": list(answers)}}
        assert arm.variants == (("one_o_one", "self_attention") if more else ("tmkd",))
        return SimpleNamespace(params=params, seconds=lambda *_: 5.0, asked=more)

    def predict(run: Any, model: str, rows: str, bench: Any) -> Predictions:
        teacher = run.asked[0].removeprefix("finetune.teachers=[").removesuffix("]")
        asked.append(teacher)
        return Predictions((1,), np.array(answers[teacher])[:, None], None, teacher)

    monkeypatch.setattr(Setting, "run", run)
    monkeypatch.setattr(arms, "predict", predict)
    setting = Setting(bench=SimpleNamespace(), recipe=Path(), overrides=())  # type: ignore[arg-type]
    found = arms.answer(setting, Arm.parse("m_o_m+self_attention"), seed=1)
    assert asked == ["a", "b", "c"]
    np.testing.assert_allclose(found.probabilities, [[0.4, 0.6]])
    assert (found.students, found.training_seconds) == (3, 15.0)


def test_what_was_thrown_away_is_computed_again_only_where_it_is_read(first: Any, root: Path) -> None:
    assert not list((root / "work" / "cache").glob("*/outs/models/finetune"))
    bench = Workbench(root / "work", Board())
    short = ("finetune.optimisation.epochs=1", "finetune.optimisation.patience=null")
    run = Setting(bench, root / "toy.yaml", short).run(Arm.parse("mkd"), 1, ["finetune"])
    assert bench.computed == []
    assert run.path("models/finetune").is_dir()
    assert bench.computed == ["pretrain", "update", "finetune"]


def test_a_changed_param_computes_what_depends_on_it(first: Any, root: Path) -> None:
    bench = Workbench(root / "work", Board())
    setting = Setting(bench, root / "toy.yaml", ("finetune.optimisation.patience=null", "finetune.alpha=0.9"))
    setting.run(Arm.parse("mkd"), 1, ["finetune"])
    assert bench.computed[-1] == "finetune"
    assert set(bench.computed) <= {"pretrain", "update", "finetune"}, "the first two if their content was thrown away"


def test_a_killed_command_goes_on_where_it_was(first: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stages that were finished stay, and the one that was not finds its state again."""
    call, states = workbench._call, []

    def killed(command: str) -> None:
        if "finetune" in command:
            states.append(Path(os.environ["KD_STATE"]))
            states[-1].mkdir(parents=True)
            (states[-1] / "checkpoint").touch()
            raise KeyboardInterrupt
        call(command)

    def going_on(command: str) -> None:
        if "finetune" in command:
            assert (states[0] / "checkpoint").exists()
            assert Path(os.environ["KD_STATE"]) == states[0]
        call(command)

    overrides = ("pretrain.optimisation.learning_rate=0.002", "finetune.optimisation.patience=null")
    monkeypatch.setattr(workbench, "_call", killed)
    bench = Workbench(root / "work", Board())
    with pytest.raises(KeyboardInterrupt):
        Setting(bench, root / "toy.yaml", overrides).run(Arm.parse("tmkd"), 1, ["finetune"])
    assert bench.computed == ["pretrain", "update"]
    monkeypatch.setattr(workbench, "_call", going_on)
    bench = Workbench(root / "work", Board())
    Setting(bench, root / "toy.yaml", overrides).run(Arm.parse("tmkd"), 1, ["finetune"])
    assert bench.computed == ["finetune"]
    assert not states[0].exists()


@pytest.mark.parametrize("student", quality.STUDENTS)
def test_every_student_fits_the_params(student: str) -> None:
    params = merged_params(PROJECT, PROJECT / "recipes/route.yaml", quality.STUDENTS[student], None)
    assert isinstance(params.student.layers, tuple) == (student == "copy3")


def test_a_learning_curve_has_a_table_of_its_own(root: Path, first: Any, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--variants", "tfidf", "--reference", "tfidf", "--exits", "", "--labels-per-class", "10,all"]
    assert quality.main(words(root, *more, "--name", "curve")) == 0
    printed = capsys.readouterr().out
    assert "### Learning curve" in printed
    results = json.loads((root / "work" / "results" / "curve.json").read_text())["results"]
    assert [each["data"]["counts"]["train"] for each in results] == [30, TRAIN]
    assert results[0]["data"]["counts"]["test"] == results[1]["data"]["counts"]["test"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--variants", "tmdk"], "there are .*tmkd"),
        (["--variants", "tfidf+self_attention"], "stands alone"),
        (["--variants", "self_attention+frozen"], "frozen stands alone"),
        (["--labels-per-class", "few"], "numbers above 0"),
        (["--seeds", "one"], "whole numbers"),
        (["--compare", "tmkd>mdk"], "'mdk' is none of alone"),
        (["--reference", "tkd"], "'tkd' is none of"),
        (["--data", "nothing"], "public data sets: banking77"),
        (["-S", "finetune.alhpa=1"], "did you mean 'alpha'"),
    ],
)
def test_wrong_words_end_with_64(
    root: Path, tmp_path: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quality.main([*words(root), "--work", str(tmp_path), *more]) == 64
    assert re.search(said, capsys.readouterr().err)
