"""A kind of task of a test's own is registered, judged and served, and no line of that knows it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from kd_core.config.evaluation import GateParams
from kd_core.evaluation.statistics import drift
from kd_core.rows import read_rows
from kd_core.serving.files import predict_file
from kd_core.serving.folder.record import identity
from kd_core.serving.predictor import Predictor
from kd_core.tasks import columns, decide
from kd_ops.base.settings import Settings
from kd_ops.promotion import gathering, promote, rivals
from kd_ops.promotion.evidence import Champion, JudgedRows, Measured, Speed, Verdict
from kd_ops.promotion.gate import decide as decide_on
from kd_ops.registering import packing, register
from kd_ops.registry.registry import connect
from kd_ops.runs.outs import Outs
from kd_ops.runs.runs import Run
from kd_ops.serving import predict
from kd_ops.serving.served import serve
from tests.conftest import PROJECT
from tests.helpers import digits
from tests.helpers.fabricated import make_settings
from tests.helpers.tiny_digits_run import TEST, built
from tests.helpers.tiny_multi_label_run import document, finished

NAME = "kd-digits"
"""In the registry."""
WITH_THE_KIND = f"""\
import sys
sys.path.append({str(PROJECT)!r})
from tests.helpers import digits
digits.register()
"""


@pytest.fixture(scope="module")
def root() -> Path:
    """A workspace in which every stage has run."""
    return built()


@pytest.fixture(scope="module")
def rows(root: Path) -> pd.DataFrame:
    return read_rows(root / TEST)


@pytest.fixture(scope="module")
def metrics(root: Path) -> dict[str, Any]:
    return document(root / "evaluation/metrics.json")


@pytest.fixture(scope="module")
def examples(root: Path) -> pd.DataFrame:
    return pd.read_parquet(root / "evaluation/details/examples.parquet")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make_settings(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def run(root: Path, settings: Settings) -> Run:
    """A run that was registered; its packed model is not asked away from the project: nobody knows the kind there."""
    floors = {"min_accuracy": 0.3, "min_share_of_best_teacher": 0.5, "min_macro_f1": 0.1}
    found = finished(root, settings, "digits", registered=NAME, **floors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(register, "prove", lambda packed, folder: None)
        register.register(found, settings)
    return found


def test_the_gate_promotes_it(run: Run, settings: Settings, metrics: dict[str, Any], examples: pd.DataFrame) -> None:
    outs = Outs.of(run, settings)
    model = gathering.measured(outs, examples)
    assert (model.kind, model.metric) == (digits.KIND, "words counted rightly")
    assert model.accuracy == pytest.approx(metrics["models"]["adaptive"]["word_accuracy"], abs=1e-6)
    assert promote.promote(run, settings).verdict is Verdict.PROMOTE
    tags = connect(settings).get_model_version(NAME, "1").tags
    assert (tags["kd.task"], tags["kd.metric.word_accuracy"]) == (digits.KIND, f"{model.accuracy:.6g}")


def test_a_champion_answers_anew_and_is_counted_by_words(
    run: Run,
    settings: Settings,
    root: Path,
    rows: pd.DataFrame,
    examples: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The champion is the student itself in full: its counts must be the trunk's."""

    class Served:
        def as_named(self, texts: list[str]) -> list[str]:
            return []

        def predict(self, words: list[str]) -> None:
            predict_file(Predictor.load(root / "models/student"), Path(words[1]), Path(words[3]), threshold=0.0)

    monkeypatch.setattr(rivals, "serve_version", lambda version, settings: Served())
    outs = Outs.of(run, settings)
    model = gathering.measured(outs, examples)
    asked = rivals.Asked(model, examples, rows.set_index("id").loc[examples["id"]], outs, None, settings)
    np.testing.assert_array_equal(asked._computed(None), np.stack(examples["trunk/counts"]))


def test_the_gate_compares_ratios_of_sums(examples: pd.DataFrame) -> None:
    gate = GateParams(min_accuracy=0.1, min_share_of_best_teacher=0.5, margin=0.01)
    speed, metric = Speed(2.0, 0.5, "here"), decide.of(digits.KIND).metric
    counts, old = (np.stack(examples[f"{name}/counts"]) for name in ("trunk", "tfidf"))
    value, before = (float(metric(each.sum(0))) for each in (counts, old))
    model = Measured("new", digits.LABELS, value, value, 5.0, speed, digits.KIND, "words counted rightly")
    worse = Champion("1", "old", digits.LABELS, old, speed, digits.KIND)
    decision = decide_on(gate, model, JudgedRows(counts, np.arange(len(counts)).astype(str), metric), worse)
    assert decision.verdict is Verdict.PROMOTE
    assert decision.numbers["difference"] == pytest.approx(value - before)


# Answers


def test_kd_predict_answers_with_the_version_s_own_code(
    run: Run, settings: Settings, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a process of its own, with the code that was registered beside the model; only the kind comes from here."""
    served = serve(f"models:/{NAME}/1", settings)
    (served.code / "sitecustomize.py").write_text(WITH_THE_KIND)
    try:
        predict.answer(f"models:/{NAME}/1", predict.Question(texts=["ab12 c3", "d4"]), True, Console(), settings)
    finally:
        (served.code / "sitecustomize.py").unlink()
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = Predictor.load(root / "models/student").predict(["ab12 c3", "d4"])
    assert [answer["label"] for answer in answers] == [list(label) for label in expected["label"]]
    assert [len(answer["probability"]) for answer in answers] == [2, 1]


def test_the_serving_model_answers_as_its_signature_says(root: Path, rows: pd.DataFrame) -> None:
    from kd_ops.registering.serving_model import StudentServing

    model, context = StudentServing(), SimpleNamespace(artifacts={"student": str(root / "models/student")})
    model.load_context(context)  # type: ignore[arg-type]
    answers = model.predict(context, rows[["text"]].head(5))  # type: ignore[arg-type]
    signature = packing._signature(["text"], several=columns.of(digits.KIND).LISTED)
    assert [each.name for each in signature.outputs.inputs] == answers.columns.tolist()
    assert [len(label) for label in answers["label"]] == [len(text.split()) for text in rows["text"].head(5)]


def test_drift_reads_its_log(root: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    """The test rows are like the calibration rows; single letters again and again are not."""
    folder = root / "models/student"
    profile = drift.read_reference(folder / "profile.parquet", (1, 2))
    for name, texts in (("like", rows["text"].tolist()), ("unlike", ["a"] * 200)):
        model = Predictor.load(folder, log=tmp_path / name)
        model.predict(texts)
        assert model.log is not None
        model.log.close()
    early = datetime.now(UTC) - timedelta(days=1)
    reference = np.tile(profile, (4, 1))  # 40 rows are too few to say anything
    found = [drift.read_log(tmp_path / name, identity(folder), early) for name in ("like", "unlike")]
    like, unlike = (drift.compare(log, reference, (1, 2), 0.95, 0.4) for log in found)
    assert (like.answers, unlike.answers) == (len(rows), 200)
    assert unlike.drifted
    assert unlike.entropy.effect > like.entropy.effect
