"""A miniature multi-label data set through every component: from the csv to report, predictions and gate."""

from __future__ import annotations

import importlib
import io
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console

from components.base import Context
from kd_core.config.data import MULTI_LABEL
from kd_core.config.evaluation import GateParams
from kd_core.models.student import StudentModel
from kd_core.rows import read_rows
from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.files import predict_file
from kd_core.serving.predictor import Predictor
from kd_core.tables.reading import read_table
from kd_ops.base.settings import Settings
from kd_ops.display.summary import model_table
from kd_ops.promotion import gathering, promote, rivals
from kd_ops.promotion.evidence import Champion, JudgedRows, Verdict
from kd_ops.promotion.gate import decide
from kd_ops.registering import register
from kd_ops.registering.register import version_tags
from kd_ops.registering.training_record import TAG
from kd_ops.registry.registry import connect
from kd_ops.runs.outs import Outs
from kd_ops.runs.results import read_result
from kd_ops.serving.served import serve
from tests.helpers.counting import row_counts, share
from tests.helpers.fabricated import make_settings
from tests.helpers.settings import with_registry
from tests.helpers.tiny_multi_label import LABELS
from tests.helpers.tiny_multi_label_run import NAME, build, document, finished

TEST = "data/checked/reference/test.parquet"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which every component has run."""
    folder = tmp_path_factory.mktemp("multi")
    build(folder)
    return folder


def test_every_model_of_the_run_knows_its_kind(root: Path) -> None:
    for name in ("pretrain", "update", "finetune", "self_distill", "alone", "student"):
        assert StudentModel.from_pretrained(root / "models" / name).config.kind == MULTI_LABEL, name
    assert document(root / "teachers/deep/config.json")["problem_type"] == "multi_label_classification"
    assert document(root / "teachers/deep/teacher.json")["contract"]["gold_example_f1"] > 0.8
    assert document(root / "scores/reference/deep/scores.json")["kind"] == MULTI_LABEL
    assert document(root / "models/tfidf/tfidf.json")["kind"] == MULTI_LABEL
    assert "valid_example_f1" in document(root / "models/finetune/history.json")["curves"]


def test_the_student_has_learnt_and_every_model_is_measured_alike(root: Path) -> None:
    metrics = document(root / "evaluation/metrics.json")
    assert metrics["main_metric"] == "example_f1"
    names = {"example_f1", "micro_f1", "macro_f1", "subset_accuracy", "log_loss", "ece", "example_f1_interval"}
    assert all(set(found) == names for found in metrics["models"].values())
    assert {"teacher:deep", "teacher:shallow", "trunk", "adaptive", "alone", "frozen", "tfidf"} <= set(
        metrics["models"]
    )
    assert metrics["models"]["trunk"]["example_f1"] > 0.7
    assert metrics["models"]["adaptive@0"] == metrics["models"]["trunk"]


def test_examples_are_the_rows_behind_the_numbers(root: Path) -> None:
    metrics = document(root / "evaluation/metrics.json")["models"]
    examples, rows = pd.read_parquet(root / "evaluation/details/examples.parquet"), read_rows(root / TEST)
    assert [tuple(cell) for cell in examples["label"]] == rows["label"].tolist()
    for model, found in metrics.items():
        assert np.mean(examples[f"{model}/counts"].str[0]) == pytest.approx(found["example_f1"], abs=1e-6)
        exact = [tuple(a) == tuple(b) for a, b in zip(examples[model], examples["label"], strict=True)]
        assert np.mean(exact) == pytest.approx(found["subset_accuracy"], abs=1e-6)


def test_report_and_card_speak_of_the_metric_that_was_measured(root: Path) -> None:
    html = (root / "report/report.html").read_text()
    best = document(root / "evaluation/metrics.json")["models"]["adaptive"]["example_f1"]
    for text in (html, (root / "report/model_card.md").read_text()):
        assert f"{best:.1%}" in text
        assert "xample-based F1" in text
        assert "accuracy of" not in text
        assert "points of accuracy" not in text
    assert html.count("<svg") == 5
    assert "Micro-F1" in html
    assert "any of 4 labels" in (root / "report/model_card.md").read_text()


def test_every_model_answers_the_masked_copy(root: Path) -> None:
    """The source knows what texts call `red`: half the rows lose the only word that tells it."""
    metrics, rows = document(root / "evaluation/metrics.json"), read_rows(root / TEST)
    found = metrics["masked"]
    assert (found["rows"], found["changed"]) == (len(rows), sum("red" in labels for labels in rows["label"]))
    assert {"teacher:deep", "trunk", "adaptive", "alone", "frozen", "tfidf"} <= set(found["models"])
    assert found["models"]["tfidf"]["changed_masked"] < found["models"]["tfidf"]["changed"] - 0.1
    low, high = found["models"]["adaptive"]["example_f1_interval"]
    assert low < found["models"]["adaptive"]["example_f1"] < high
    masked = f"{found['models']['adaptive']['example_f1']:.1%}"
    assert masked in (root / "report/report.html").read_text()
    assert f"example-based F1 is {masked} instead of" in (root / "report/model_card.md").read_text()


def test_the_weights_of_teachers_and_decoders_were_fitted(root: Path) -> None:
    weights = StudentModel.from_pretrained(root / "models/finetune").config.decoder_weights
    assert set(weights) == {"gold", "deep", "shallow"}
    assert sum(weights.values()) == pytest.approx(1.0, abs=1e-5)
    assert len({round(weight, 4) for weight in weights.values()}) > 1


def test_the_closing_table_shows_the_metric(root: Path) -> None:
    summary = document(root / "report/summary.json")
    console = Console(file=io.StringIO(), width=200)
    console.print(model_table(summary))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "example-based F1" in shown
    assert f"{summary['rows'][0]['example_f1']:.1%}" in shown


# Predictions


def test_answers_are_the_labels_above_one_half_with_their_probabilities(root: Path) -> None:
    predictor, rows = Predictor.load(root / "models/student"), read_rows(root / TEST)
    found = predictor.predict(rows, probabilities=True)
    for answer in found.to_dict("records"):
        each = {label: answer[f"probability_{label}"] for label in LABELS}
        assert answer["label"] == tuple(sorted(label for label, share in each.items() if share > 0.5))
        assert answer["probability"] == pytest.approx([each[label] for label in answer["label"]])
    assert {len(label) for label in found["label"]} >= {0, 1, 2}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_files_of_answers(root: Path, tmp_path: Path, kind: str) -> None:
    predictor, texts = Predictor.load(root / "models/student"), read_rows(root / TEST)["text"].tolist()
    pd.DataFrame({"text": texts}).to_csv(tmp_path / "in.csv", index=False)
    predict_file(predictor, tmp_path / "in.csv", tmp_path / f"out.{kind}")
    cells = read_table(tmp_path / f"out.{kind}")["label"].tolist()
    wanted = predictor.predict(texts)["label"].tolist()
    if kind == "csv":
        assert cells == ["|".join(label) or "|" for label in wanted]
    else:
        assert [tuple(cell) for cell in cells] == wanted


# The gate


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return with_registry(make_settings(tmp_path_factory.mktemp("registry")))


@pytest.fixture(scope="module")
def run(root: Path, settings: Settings) -> Any:
    """A run that was registered: its packed model has answered with lists of labels, away from the project."""
    found = finished(root, settings, "multi")
    register.register(found, settings)
    examples = pd.read_parquet(root / "evaluation/details/examples.parquet")
    return SimpleNamespace(run=found, settings=settings, outs=Outs.of(found, settings), examples=examples)


def judged(scores: np.ndarray) -> JudgedRows:
    return JudgedRows(row_counts(scores), np.arange(len(scores)).astype(str), share)


def champion_of(run: Any, **tags: str) -> Any:
    known = version_tags(run.run, run.outs) | {TAG: read_result(run.run)["trained_on"]}
    return SimpleNamespace(
        version="1", run_id="gone", tags={**known, "kd.weights": "other", "kd.test_hash": "x", **tags}
    )


@pytest.mark.slow
def test_from_the_registry_to_the_champion(
    run: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first version holds the floors; another one with the same answers is no worse, by the first one's scores."""
    assert promote.promote(run.run, run.settings).verdict is Verdict.PROMOTE
    tags = connect(run.settings).get_model_version(NAME, "1").tags
    best = document(root / "evaluation/metrics.json")["models"]["adaptive"]["example_f1"]
    assert (tags["kd.task"], tags["kd.metric.example_f1"]) == (MULTI_LABEL, f"{best:.6g}")
    served = Predictor.load(serve(f"models:/{NAME}@champion", run.settings).student)
    texts = read_rows(root / TEST)["text"].tolist()
    assert served.predict(texts)["label"].tolist() == [tuple(given) for given in run.examples["adaptive"]]
    monkeypatch.setattr(register, "prove", lambda packed, folder: None)
    monkeypatch.setattr(rivals, "serve_version", None)  # the answers of the champion's own run are there
    shutil.copytree(root / "models/student", tmp_path / "student")
    (tmp_path / "student" / "more.txt").write_text("other weights")
    second = finished(root, run.settings, "multi-2", tmp_path / "student")
    register.register(second, run.settings)
    decision = promote.promote(second, run.settings)
    assert decision.verdict is Verdict.PROMOTE
    assert (decision.numbers["difference"], decision.numbers["test_rows"]) == (0.0, len(texts))


def test_the_gate_judges_by_the_main_metric(run: Any, root: Path) -> None:
    model = gathering.measured(run.outs, run.examples)
    metrics = document(root / "evaluation/metrics.json")["models"]
    assert (model.kind, model.metric) == (MULTI_LABEL, "example-based F1")
    assert model.accuracy == pytest.approx(metrics["adaptive"]["example_f1"], abs=1e-6)
    teachers = [metrics[f"teacher:{name}"]["example_f1"] for name in ("deep", "shallow")]
    assert model.best_teacher_accuracy == pytest.approx(max(teachers), abs=1e-6)
    assert gathering.judge(run.run, run.outs, None, None, run.settings).verdict is Verdict.PROMOTE
    strict = GateParams(min_accuracy=0.999, min_share_of_best_teacher=0.5, min_speedup=0.01)
    assert decide(strict, model, judged(np.ones(3)), None).reasons[0].startswith("example-based F1")


def test_rows_that_were_trained_on_do_not_count(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Floors and comparison rest on the F1 of the other rows."""
    names = run.examples["group"].to_numpy(str)
    known = np.isin(names, np.unique(names)[: len(np.unique(names)) // 10])
    monkeypatch.setattr(gathering, "contaminated", lambda rows, trained, similarity: known)
    decision = gathering.judge(run.run, run.outs, None, None, run.settings)
    assert decision.numbers["left_out"] == known.sum() > 0
    assert gathering.measured(run.outs, run.examples[~known]).accuracy == pytest.approx(
        np.mean(run.examples["adaptive/counts"][~known].str[0])
    )


def test_a_champion_answers_anew_and_is_scored_by_its_label_sets(
    run: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The champion is the student itself at threshold 0: its scores must be the trunk's."""

    class Served:
        def as_named(self, texts: list[str]) -> list[str]:
            return []

        def predict(self, words: list[str]) -> None:
            source, target = Path(words[1]), Path(words[3])
            predict_file(Predictor.load(root / "models/student"), source, target, threshold=0.0)

    monkeypatch.setattr(rivals, "serve_version", lambda version, settings: Served())
    seen: list[Champion] = []

    def watch(*words: Any) -> Any:
        seen.append(words[3])
        return decide(*words)

    monkeypatch.setattr(gathering, "decide", watch)
    gathering.judge(run.run, run.outs, None, champion_of(run), run.settings)
    examples = pd.read_parquet(root / "evaluation/details/examples.parquet")
    np.testing.assert_allclose(seen[0].counts, np.stack(examples["trunk/counts"]))


def test_a_champion_of_another_kind_is_refused(run: Any) -> None:
    decision = gathering.judge(run.run, run.outs, None, champion_of(run, **{"kd.task": "classification"}), run.settings)
    assert decision.verdict is Verdict.REJECT
    assert "kind of task changed from classification to multi_label_classification" in decision.reasons[0]


def test_scores_of_another_kind_are_refused_before_training(root: Path, tmp_path: Path) -> None:
    values = yaml.safe_load((root / "params.yaml").read_text())
    values["data"]["reference"]["task"]["kind"] = "classification"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    for name in ("models", "data", "scores"):
        (tmp_path / name).symlink_to(root / name)
    module = importlib.import_module("components.finetune")
    with pytest.raises(InvalidDataError, match=r"'deep'.*kind of task differs"):
        module.main(Context(module.COMPONENT, {}, tmp_path))
