"""What the gate is given to judge by: test rows that no model was trained on, and answers to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kd_core.config.data import CLASSIFICATION, MULTI_LABEL
from kd_core.evaluation.quality.contamination import TrainedTexts
from kd_core.runtime.storage import Storage
from kd_ops.base.documents import to_yaml
from kd_ops.base.settings import Settings
from kd_ops.promotion import gathering, ledger, promote, rivals
from kd_ops.promotion.evidence import Measured, Speed, Verdict
from kd_ops.promotion.floors import MINIMUM_GROUPS
from kd_ops.registering import register, training_record
from kd_ops.registry.registry import connect
from kd_ops.runs.results import read_result
from kd_ops.serving.description import Description
from kd_ops.serving.served import ServedModel
from tests.helpers import digits
from tests.helpers.fabricated import LABELS, finished_run, labelled_rows
from tests.helpers.promoting import N, close, named, right


def memorised(groups: int | None = None) -> tuple[np.ndarray, pd.DataFrame]:
    """[N] bool, test rows that a run has trained on, in whole groups (half of all, or so many), and these rows."""
    rows = labelled_rows(N)
    names = sorted(set(rows["group"]))
    chosen = names[::2] if groups is None else names[:groups]
    mask = rows["group"].isin(chosen).to_numpy()
    return mask, rows[mask]


@pytest.mark.usefixtures("unproven")
def test_a_champion_is_not_judged_on_rows_that_it_was_trained_on(settings: Settings) -> None:
    """It knows half of today's test by heart, and is worse than the new version where neither does."""
    name = "kd-by-heart"
    mask, trained = memorised()
    old, new = mask | right(0.7), right(0.8)
    assert old.mean() > new.mean(), "on all rows the old one would win"
    first = finished_run(settings, "by-heart-1", old, overrides=named(name), trained=trained)
    assert close(first, settings) is Verdict.PROMOTE
    run = finished_run(settings, "by-heart-2", new, overrides=named(name))
    register.register(run, settings)
    decision = promote.promote(run, settings)
    assert decision.verdict is Verdict.PROMOTE
    assert decision.numbers["difference"] == pytest.approx(new[~mask].mean() - old[~mask].mean())
    assert (decision.numbers["test_rows"], decision.numbers["left_out"]) == ((~mask).sum(), mask.sum())
    assert f"{mask.sum():,} of 1,200 test rows were left out" in decision.reasons[-1]


@pytest.mark.usefixtures("unproven")
def test_a_challenger_that_knows_the_test_by_heart_does_not_win_by_it(settings: Settings) -> None:
    name = "kd-cheat"
    mask, trained = memorised()
    assert close(finished_run(settings, "cheat-1", right(0.8), overrides=named(name)), settings) is Verdict.PROMOTE
    run = finished_run(settings, "cheat-2", mask | right(0.7), overrides=named(name), trained=trained)
    assert close(run, settings) is Verdict.REJECT


@pytest.mark.usefixtures("unproven")
def test_the_floors_of_a_first_version_count_on_unseen_rows(settings: Settings) -> None:
    mask, trained = memorised()
    correct = mask | right(0.4)
    assert correct.mean() > 0.65
    run = finished_run(settings, "floors", correct, overrides=named("kd-floors"), trained=trained)
    assert close(run, settings) is Verdict.REJECT
    assert f"accuracy {correct[~mask].mean():.1%} is below the floor" in read_result(run)["reasons"][0]


@pytest.mark.usefixtures("unproven")
def test_too_few_unseen_rows_hold(settings: Settings) -> None:
    groups = labelled_rows(N)["group"].nunique()
    for left, verdict in ((MINIMUM_GROUPS - 1, Verdict.HOLD), (MINIMUM_GROUPS, Verdict.PROMOTE)):
        _, trained = memorised(groups - left)
        run = finished_run(settings, f"few-{left}", right(0.9), overrides=named(f"kd-few-{left}"), trained=trained)
        assert close(run, settings) is verdict
        assert ("only 99 groups of test rows are left" in read_result(run)["reasons"][0]) is (verdict is Verdict.HOLD)


@pytest.mark.usefixtures("unproven")
def test_a_version_has_seen_what_its_registered_teachers_have(settings: Settings) -> None:
    _, trained = memorised()
    register.register(finished_run(settings, "elder", overrides=named("kd-elder"), trained=trained), settings)
    run = finished_run(settings, "heir", overrides=named("kd-heir"))
    params = run.params()
    params["teachers"]["minilm_l6"]["weights"] = "models:/kd-elder@champion"
    params["resolved"]["teachers"]["minilm_l6"]["revision"] = "kd-elder/1"
    run.storage.write("params.yaml", to_yaml(params))
    register.register(run, settings)
    known = [
        training_record.read_record(connect(settings).get_model_version(name, "1").tags[training_record.TAG], settings)
        for name in ("kd-elder", "kd-heir")
    ]
    assert TrainedTexts.of([trained]).texts <= known[0].texts <= known[1].texts


@pytest.mark.usefixtures("unproven")
def test_without_its_record_of_training_texts_a_version_is_held(settings: Settings) -> None:
    run = finished_run(settings, "lost", right(0.9), overrides=named("kd-lost"))
    register.register(run, settings)
    Storage(settings.store_uri).delete(f"{training_record.FOLDER}/{read_result(run)['trained_on']}.parquet")
    assert promote.promote(run, settings).verdict is Verdict.HOLD
    assert "the store has lost a record of training texts" in read_result(run)["reasons"][0]


def test_a_champion_reads_the_test_rows_under_their_own_names(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its training data may have called another column `text`."""
    monkeypatch.setattr(ServedModel, "described", lambda self: Description("m", (1, 2), {"text": "text_pair"}))
    asked: list[str] = []

    def answered(self: ServedModel, arguments: list[str]) -> None:
        asked.extend(arguments)
        labelled_rows(3)[["label"]].to_parquet(arguments[arguments.index("--output") + 1])

    monkeypatch.setattr(ServedModel, "predict", answered)
    monkeypatch.setattr(rivals, "serve_version", lambda version, settings: ServedModel(tmp_path, tmp_path))
    model = Measured("new", LABELS, 0.8, 0.9, 2.0, Speed(None, None, None), CLASSIFICATION)
    rows = labelled_rows(3)
    counts = rivals.Asked(model, rows, rows, None, None, settings)._computed(None)  # type: ignore[arg-type]
    assert counts.tolist() == [[1, 1]] * 3
    assert asked[-2:] == ["--column", "text=text"]


def test_each_version_judged_on_a_test_set_counts_once(tmp_path: Path) -> None:
    store = Storage(tmp_path)
    judged = [("a", "m", "1"), ("a", "m", "1"), ("a", "m", "2"), ("a", "other", "2"), ("b", "m", "3")]
    assert [ledger.count_test_use(store, *each) for each in judged] == [1, 1, 2, 3, 1]


@pytest.mark.parametrize(
    ("given", "true", "expected"),
    [
        (["a", "a", "a", "b"], ["a", "b", "b", "b"], ("a", 0.75, pytest.approx(2 / 3))),
        (["a", "a"], ["a", "a"], ("a", 1.0, None)),
        ([("a", "b"), ("a", "b"), ()], [("a",), (), ()], ("a, b", pytest.approx(2 / 3), pytest.approx(2 / 3))),
        ([(), ()], [("a",), ()], ("", 1.0, 1.0)),
    ],
)
def test_the_most_frequent_answer(given: list[object], true: list[object], expected: tuple[object, ...]) -> None:
    """An answer is all labels of a row; what counts is who gets it of those with other labels."""
    found = gathering.most_frequent(pd.DataFrame({"adaptive": given, "label": true}), MULTI_LABEL)
    assert (found.answer, found.share, found.share_of_others) == expected


def test_where_each_unit_has_a_label_units_are_counted() -> None:
    digits.register()
    rows = pd.DataFrame({"adaptive": [("0", "0"), ("0",), ("1",)], "label": [("0", "1"), ("0",), ("1",)]})
    found = gathering.most_frequent(rows, digits.KIND)
    assert (found.answer, found.share, found.share_of_others) == ("0", 0.75, 0.5)
    assert found.counted == "parts of test rows"
