"""The report: self-contained, escaped, repeatable, and true to the numbers that it was made from."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import evaluate, measure, report
from components.base import Context
from kd_core.config.data import CLASSIFICATION
from kd_core.config.evaluation import EvaluateParams, MeasureParams
from kd_core.evaluation.report import plots
from kd_core.evaluation.report.promise import promise
from kd_core.evaluation.report.summary import exits_conclusion, summarise
from kd_core.runtime.errors import InvalidDataError
from kd_core.tasks import sections
from tests.helpers.fabricated import dial
from tests.helpers.tiny_exits import TASK
from tests.helpers.tiny_run import CHECKED, LABEL_NAMES, tiny_run

HOSTILE = "<script>alert(1)</script> | `x` & 100 %"
CURVES = {"loss": [[1, 2.0], [2, 1.5], [3, 1.2]], "valid_accuracy": [[3, 0.5]]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of tiny models through evaluate, measure and report."""
    root = tiny_run(tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("scratch"))
    params = {
        "recipe": "tiny",
        "data": {"reference": {"task": TASK.model_dump(mode="json")}},
        "evaluate": EvaluateParams(resamples=200).model_dump(mode="json"),
        "measure": MeasureParams(batches=(1, 4), texts=8, repeats=1, threads=1).model_dump(mode="json"),
    }
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    dataset = {"role": "reference", "revision": HOSTILE, "hash": "0" * 64, "notes": [HOSTILE], "source": {}}
    dataset["label_names"] = LABEL_NAMES
    dataset["counts"] = {"train": 60, "valid": 40, "calibration": 40, "test": 240, "unlabelled": 0}
    (root / CHECKED / "dataset.json").write_text(json.dumps(dataset))
    for stage in ("pretrain", "finetune", "self_distill"):
        (root / "models" / stage).mkdir(parents=True)
        (root / "models" / stage / "history.json").write_text(
            json.dumps({"curves": CURVES if stage != "pretrain" else {}})
        )
    for component in (evaluate, measure, report):
        component.main(Context(component.COMPONENT, {}, root))
    Context(report.COMPONENT, {}, root).check_outputs()
    return root


class Reader(HTMLParser):
    """Collects what a browser would fetch or run, and the text of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = {"src", "href", "xlink:href", "srcset", "data", "poster", "action"}
        self.references += [value or "" for name, value in attributes if name in names]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_from_outside(root: Path) -> None:
    html = (root / "report/report.html").read_text(encoding="utf-8")
    page = Reader(html)
    assert not {"link", "script", "iframe", "img", "object", "embed", "base"} & set(page.tags)
    assert page.tags.count("svg") == 5
    assert all(reference.startswith(("#", "data:image/png;base64,")) for reference in page.references)
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)'\"]*)", html))
    assert "@import" not in html
    assert "<!DOCTYPE svg" not in html
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", html))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, nothing is fetched


def test_teachers_stand_beside_each_other_with_what_their_contract_found(root: Path) -> None:
    page = " ".join(Reader((root / "report/report.html").read_text(encoding="utf-8")).text.split())
    assert page.count("validation rows gold accuracy 0.5, entropy 0.25, log loss 1.125, rows 40") == 3
    card = (root / "report/model_card.md").read_text(encoding="utf-8")
    assert card.count("on validation rows gold accuracy 0.5, entropy 0.25, log loss 1.125, rows 40") == 3


def test_the_card_does_not_hide_the_code_that_comes_along(root: Path) -> None:
    card = (root / "report/model_card.md").read_text(encoding="utf-8")
    assert "no code" not in card
    assert "carries the `kd_core` that it was made with" in card


def test_texts_from_data_are_escaped(root: Path) -> None:
    html = (root / "report/report.html").read_text(encoding="utf-8")
    assert "<script>" not in html
    assert HOSTILE in Reader(html).text
    card = (root / "report/model_card.md").read_text(encoding="utf-8")
    assert r"Revision `<script>alert(1)</script> \| 'x' & 100 %`" in card


def test_the_page_says_what_was_measured(root: Path) -> None:
    text = Reader((root / "report/report.html").read_text(encoding="utf-8")).text
    metrics = json.loads((root / "evaluation/metrics.json").read_text())
    for model in ("adaptive", "trunk", "alone", "frozen", "tfidf", "teacher:big", "teacher:small"):
        assert f"{metrics['models'][model]['accuracy']:.1%}" in text
    assert metrics["test"]["hash"] in text
    assert metrics["gap_conclusion"][1:] in text


def test_ids_of_different_pictures_do_not_collide(root: Path) -> None:
    html = (root / "report/report.html").read_text(encoding="utf-8")
    clips = [set(re.findall(r'<clipPath id="([^"]+)"', svg)) for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]
    assert sum(map(len, clips)) == len(set().union(*clips))


def test_summary_has_a_row_for_each_model(root: Path) -> None:
    summary = json.loads((root / "report/summary.json").read_text())
    models = ["teacher:big", "teacher:small", "trunk", "adaptive", "alone", "frozen", "tfidf"]
    assert [row["model"] for row in summary["rows"]] == models
    assert summary["batch"] == 4
    for row in summary["rows"]:
        timed = row["model"] not in {"alone", "frozen", "tfidf"}
        assert (row["speedup"] is not None) == (row["size_mb"] is not None) == timed
    assert set(summary) >= {"gap_closed", "gap_conclusion", "thresholds", "promise", "exits", "confidence"}


def test_reporting_twice_writes_the_same_bytes(root: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(root, again, ignore=shutil.ignore_patterns("report"))
    report.main(Context(report.COMPONENT, {}, again))
    for name in ("report.html", "model_card.md", "summary.json"):
        assert (root / "report" / name).read_bytes() == (again / "report" / name).read_bytes()


def test_page_and_card_tell_what_is_left_without_the_labels_names(root: Path) -> None:
    metrics = json.loads((root / "evaluation/metrics.json").read_text())
    found, plain = metrics["masked"]["models"]["adaptive"], metrics["models"]["adaptive"]["accuracy"]
    card = (root / "report/model_card.md").read_text(encoding="utf-8")
    assert "A name of the label stands in 160 of 240 test rows." in card
    assert f"accuracy is {found['accuracy']:.1%} instead of {plain:.1%}" in card
    page = Reader((root / "report/report.html").read_text(encoding="utf-8")).text
    table = page[page.index("Without the label's name") : page.index("hold a name of their")]
    for numbers in metrics["masked"]["models"].values():
        assert f"{numbers['accuracy']:.1%}" in table
        assert f"{numbers['changed_masked']:.1%}" in table


def test_the_curve_holds_timed_points_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark for each threshold that was timed, at its own accuracy; nothing is drawn between them."""
    from matplotlib.axes import Axes

    drawn: list[tuple[Any, ...]] = []
    plot = Axes.plot

    def spy(axis: Axes, *where: Any, **how: Any) -> Any:
        drawn.append((*where, how["linestyle"]))
        return plot(axis, *where, **how)

    monkeypatch.setattr(Axes, "plot", spy)
    names = ("adaptive@0.1", "adaptive@0.5")
    models = example()["models"] | {name: {"accuracy": (7 + n) / 10} for n, name in enumerate(names)}
    timed = [{"model": name, "batch": 32, "speedup": 9.0 + n} for n, name in enumerate(names)]
    plots.tradeoff(example(models=models), timed, {"trunk": 8.0, "adaptive": 9.5}, 32)
    assert drawn == [(9.0, 0.7, "none"), (10.0, 0.8, "none")]


def test_a_broken_file_is_named(root: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(root, broken)
    (broken / "evaluation/details/exits.json").write_text("{")
    with pytest.raises(InvalidDataError, match=r"exits\.json"):
        report.main(Context(report.COMPONENT, {}, broken))


def example(**changes: Any) -> dict[str, Any]:
    quality = {"accuracy": 0.8, "accuracy_interval": [0.78, 0.82], "macro_f1": 0.8, "log_loss": 0.5, "ece": 0.05}
    names = ("teacher:big", "trunk", "adaptive", "alone", "frozen", "tfidf")
    return {
        "test": {"rows": 100},
        "confidence": 0.95,
        "models": dict.fromkeys(names, quality),
        "best_teacher": "teacher:big",
        "differences": {"adaptive_minus_alone": {"value": 0.01, "low": -0.01, "high": 0.03}},
        "gap_closed": None,
        "gap_conclusion": "no gap",
        "thresholds": [0.3],
        "disagreement": 0.004,
        "exits": {"1": 0.5, "2": 0.5},
        **changes,
    }


def inference(wish: float = 0.02) -> dict[str, Any]:
    return {"max_disagreement": wish, "dial": dial().model_dump(mode="json")}


def test_what_exits_were_promised_stands_beside_what_they_did() -> None:
    said = promise(inference(), example())
    assert "at most 2.00% of the predictions may differ from the full model's" in said
    assert "one for each near-duplicate group, 1 predictions differ: at most 1.58% at 95%" in said
    assert "On the test rows 0.40% differ." in said
    unproven = promise(inference(0.005), example(thresholds=[0.0]))
    assert "300 calibration texts do not prove" in unproven
    assert "would prove no less than 0.99%" in unproven
    assert promise(inference(0.0), example(thresholds=[0.0])).startswith("Exits are off: no disagreement")
    assert promise(inference(), example(thresholds=[])).startswith("The student has one exit only")


@pytest.mark.parametrize(
    ("low", "high", "claim"),
    [(0.01, 0.03, "it is better"), (-0.03, -0.01, "it is worse"), (-0.01, 0.03, "neither clearly better nor worse")],
)
def test_the_conclusion_claims_no_more_than_the_interval(low: float, high: float, claim: str) -> None:
    differences = {"adaptive_minus_alone": {"value": 0.01, "low": low, "high": high}}
    measured = {"rows": [{"model": "other", "batch": 1}]}
    summary = summarise(example(differences=differences), measured, inference(), sections.of(CLASSIFICATION))
    assert claim in summary["conclusion"]


def timed(model: str, batch: int, p50: float, p99: float) -> dict[str, Any]:
    return {"model": model, "batch": batch, "samples_per_second": 1.0, "latency_ms": {"p50": p50, "p99": p99}}


@pytest.mark.parametrize(("early", "idle"), [(2.0, False), (2.38, True), (2.45, True)])
def test_exits_that_save_no_time_are_said_to(early: float, idle: bool) -> None:
    lost = {"adaptive_minus_trunk": {"value": -0.0125, "low": -0.02, "high": -0.005}}
    rows = [timed("trunk", 1, 2.38, 4.6), timed("adaptive", 1, early, 8.2)]
    rows += [timed("trunk", 32, 21.0, 57.0), timed("adaptive", 32, 19.0, 28.0)]
    said = exits_conclusion(example(differences=lost), {"rows": rows})
    assert f"at batch 1 a call takes {early:.2f} ms, with all layers 2.38 ms (99th percentile 8.20 and 4.60 ms)" in said
    assert "at batch 32 a call takes 19.00 ms, with all layers 21.00 ms" in said
    assert "-1.2 points (95% interval -2.0 to -0.5)" in said
    assert ("They save no time at batch 1 here: threshold 0 serves all layers." in said) == idle
    assert exits_conclusion(example(), {"rows": [{"model": "other", "batch": 1}]}) == ""


def test_page_and_card_tell_what_exits_cost(root: Path) -> None:
    summary = json.loads((root / "report/summary.json").read_text())
    assert "at batch 1 a call takes" in summary["exits_conclusion"]
    assert "at batch 4 a call takes" in summary["exits_conclusion"]
    assert summary["exits_conclusion"] in Reader((root / "report/report.html").read_text(encoding="utf-8")).text
    assert summary["exits_conclusion"] in (root / "report/model_card.md").read_text(encoding="utf-8")
    assert summary["latency_batch"] == 1
    measured = json.loads((root / "measure/metrics.json").read_text())["rows"]
    single = {row["model"]: row["latency_ms"]["p50"] for row in measured if row["batch"] == 1}
    assert [row["latency_ms"] for row in summary["rows"]] == [single.get(row["model"]) for row in summary["rows"]]


def test_pictures_stand_little_data() -> None:
    """One label mistaken never, one layer, no history, no measured student: still pictures, no exception."""
    bins = {"trunk": {"rows": [0.0, 0.0], "confidence": [0.0, 0.0], "accuracy": [0.0, 0.0]}}
    table = {"labels": ["a", "b"], "matrix": [[3, 0], [0, 0]], "classes": [{"label": "a", "rows": 3, "recall": 1.0}]}
    drawn = [
        plots.tradeoff(example(), [], {}, 32),
        plots.exits({"0": {"1": 1.0}, "chosen": {"1": 1.0}}),
        plots.reliability(bins, example()),
        plots.confusion({**table, "mistakes": []}, "test rows"),
        plots.training({"pretrain": {}}),
    ]
    assert all(svg.startswith("<svg role=") and svg.rstrip().endswith("</svg>") for svg in drawn)
