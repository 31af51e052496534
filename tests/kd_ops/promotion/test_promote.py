"""Promotion and rollback on a real registry: what becomes of the aliases, the ledger and the run."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kd_core.runtime.errors import ParamsError, TryAgainError
from kd_core.runtime.storage import Storage
from kd_ops.base.settings import Settings
from kd_ops.promotion import aliases, ledger, promote
from kd_ops.promotion.evidence import Verdict
from kd_ops.registering import register
from kd_ops.registry.registry import by_alias, connect
from kd_ops.runs.results import read_result
from kd_ops.tracking.track import track
from tests.helpers.fabricated import done, evaluation, fake_student, finished_run, labelled_rows, parquet
from tests.helpers.promoting import N, champion_of, close, named, right


@pytest.mark.usefixtures("unproven")
def test_the_story_of_an_alias(settings: Settings) -> None:
    """First version, a worse one, a better one, the same again, and back."""
    store, name = Storage(settings.store_uri), "kd-story"
    first = finished_run(settings, "first", right(0.80), overrides=named(name), test_hash="story")
    assert close(first, settings) is Verdict.PROMOTE
    assert read_result(first)["model"] == {"name": name, "version": "1", "aliases": ["champion"]}

    worse = finished_run(settings, "worse", right(0.70), overrides=named(name), test_hash="story")
    assert close(worse, settings) is Verdict.REJECT
    assert champion_of(settings, name) == "1"
    assert read_result(worse)["model"]["aliases"] == ["challenger"]
    assert "clearly worse" in read_result(worse)["reasons"][0]
    assert "judged 2 versions" in read_result(worse)["reasons"][-1]

    better = finished_run(settings, "better", right(0.88), overrides=named(name), test_hash="story")
    assert close(better, settings) is Verdict.PROMOTE
    assert champion_of(settings, name) == "3"

    tags = connect(settings).get_model_version(name, "3").tags
    assert tags["kd.verdict"] == "PROMOTE"
    limits = {key: tags[f"kd.gate.{key}"] for key in ("min_accuracy", "margin", "confidence", "max_latency_ms")}
    assert limits == {"min_accuracy": "0.6", "margin": "0.02", "confidence": "0.95", "max_latency_ms": "None"}
    parent = read_result(better)["mlflow_run"]
    assert connect(settings).get_run(parent).data.tags["kd.verdict"] == "PROMOTE"
    assert connect(settings).get_run(parent).info.status == "FINISHED"

    assert promote.rollback(name, settings) == ("3", "1")
    assert champion_of(settings, name) == "1"
    assert close(better, settings) is Verdict.HOLD, "what was rolled back does not come back by itself"
    assert "rolled back" in read_result(better)["reasons"][0]
    assert champion_of(settings, name) == "1"
    with pytest.raises(ParamsError, match="no champion before"):
        promote.rollback(name, settings)
    with pytest.raises(ParamsError, match="no version 99"):
        promote.rollback(name, settings, to="99")
    assert promote.rollback(name, settings, to="3") == ("1", "3")

    events = [(e.version, e.champion_before, e.champion_after, e.verdict) for e in ledger.history(store, name)]
    assert events == [
        ("1", None, "1", "PROMOTE"),
        ("2", "1", "1", "REJECT"),
        ("3", "1", "3", "PROMOTE"),
        ("3", "3", "1", "ROLLBACK"),
        ("1", "1", "3", "ROLLBACK"),
    ]
    assert all(event.who and event.when and event.reasons for event in ledger.history(store, name))


@pytest.mark.usefixtures("unproven")
def test_the_same_model_again_changes_nothing(settings: Settings) -> None:
    student = {"model.json": b'{"task": {"kind": "classification", "labels": ["red", "x"]}}', "model.safetensors": b"w"}
    first = finished_run(settings, "same-1", right(0.8), student, named("kd-same"), test_hash="same")
    second = finished_run(settings, "same-2", right(0.8), student, named("kd-same"), cached=True, test_hash="same")
    assert close(first, settings) is Verdict.PROMOTE
    parent = track(second, settings)
    assert close(second, settings) is Verdict.HOLD
    assert "identical" in read_result(second)["reasons"][0]
    assert read_result(second)["model"] == {"name": "kd-same", "version": "1", "aliases": ["champion"]}
    assert "judged 1 version " in read_result(second)["reasons"][-1]
    assert len(ledger.history(Storage(settings.store_uri), "kd-same")) == 1
    assert connect(settings).get_model_version("kd-same", "1").tags["kd.verdict"] == "PROMOTE", "nothing new decided"
    assert connect(settings).get_run(parent).data.tags["kd.verdict"] == "HOLD"


@pytest.mark.usefixtures("unproven")
def test_an_old_decision_is_not_carried_out_over_a_later_one(settings: Settings) -> None:
    name = "kd-late"
    first = finished_run(settings, "late-1", right(0.80), overrides=named(name), test_hash="late")
    second = finished_run(settings, "late-2", right(0.90), overrides=named(name), test_hash="late")
    assert close(first, settings) is Verdict.PROMOTE
    assert close(second, settings) is Verdict.PROMOTE
    assert promote.promote(first, settings).verdict is Verdict.HOLD
    assert "a later decision stands: the champion is version 2" in read_result(first)["reasons"][0]
    assert champion_of(settings, name) == "2"
    assert by_alias(connect(settings), name, "challenger") is None
    assert connect(settings).get_model_version(name, "1").tags["kd.verdict"] == "PROMOTE"
    promote.rollback(name, settings, to="1")
    promote.rollback(name, settings, to="2")
    same = finished_run(settings, "late-3", right(0.90), fake_student("late-2"), named(name), test_hash="late")
    close(same, settings)
    assert "identical" in read_result(same)["reasons"][0], "brought back, it does not count as rolled back any more"


@pytest.mark.usefixtures("unproven")
def test_what_a_person_moves_by_hand_stays_as_it_is(settings: Settings) -> None:
    name = "kd-by-hand"
    runs = [finished_run(settings, f"by-hand-{share}", right(share), overrides=named(name)) for share in (0.7, 0.8)]
    assert [close(run, settings) for run in runs] == [Verdict.PROMOTE, Verdict.PROMOTE]
    connect(settings).set_registered_model_alias(name, "champion", "1")
    assert promote.promote(runs[1], settings).verdict is Verdict.HOLD
    assert "its alias was moved by hand" in read_result(runs[1])["reasons"][0]
    assert champion_of(settings, name) == "1"


@pytest.mark.usefixtures("unproven")
def test_a_champion_registered_by_hand_holds_with_a_reason(settings: Settings, tmp_path: Path) -> None:
    client = connect(settings)
    client.create_registered_model("kd-hand")
    client.create_model_version("kd-hand", source=tmp_path.as_uri())
    client.set_registered_model_alias("kd-hand", "champion", "1")
    run = finished_run(settings, "hand", right(0.9), overrides=named("kd-hand"))
    assert close(run, settings) is Verdict.HOLD
    assert "version 1, the champion, was not registered by a run" in read_result(run)["reasons"][0]
    assert champion_of(settings, "kd-hand") == "1"


@pytest.mark.usefixtures("unproven")
@pytest.mark.parametrize(("error", "status"), [(TryAgainError("not now"), "FAILED"), (SystemExit(143), "KILLED")])
def test_a_run_whose_promotion_failed_is_not_finished_until_it_succeeds(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: str
) -> None:
    monkeypatch.setenv("KD_HOME", str(settings.home))
    run = finished_run(settings, f"closing-{status}", right(0.8), overrides=named(f"kd-closing-{status}"))
    register.main(["--run", run.uri])
    parent = read_result(run)["mlflow_run"]

    def said() -> str:
        return str(connect(settings).get_run(parent).info.status)

    def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(promote, "judge", fail)
        with pytest.raises(type(error)):
            promote.main(["--run", run.uri])
    assert said() == status
    track(run, settings)
    assert said() == status, "logging the run again does not hide it"
    promote.main(["--run", run.uri])
    assert said() == "FINISHED"
    track(run, settings)
    assert said() == "FINISHED"


@pytest.mark.usefixtures("unproven")
def test_a_first_version_below_a_floor_stays_challenger(settings: Settings) -> None:
    run = finished_run(settings, "low", right(0.5), overrides=named("kd-low"))
    assert close(run, settings) is Verdict.REJECT
    assert read_result(run)["model"]["aliases"] == ["challenger"]
    assert champion_of(settings, "kd-low") is None


@pytest.mark.usefixtures("unproven")
def test_a_promotion_cut_short_is_carried_out_as_decided(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    close(finished_run(settings, "cut-1", right(0.8), overrides=named("kd-cut")), settings)
    run = finished_run(settings, "cut-2", right(0.9), overrides=named("kd-cut"))
    register.register(run, settings)

    def stop(*_: Any) -> None:
        raise SystemExit(143)

    with monkeypatch.context() as patch:
        patch.setattr(aliases, "make_champion", stop)
        with pytest.raises(SystemExit):
            promote.promote(run, settings)
    assert champion_of(settings, "kd-cut") == "1"
    assert promote.promote(run, settings).verdict is Verdict.PROMOTE
    assert champion_of(settings, "kd-cut") == "2"
    assert len(ledger.history(Storage(settings.store_uri), "kd-cut")) == 2


@pytest.mark.usefixtures("unproven")
def test_a_champion_that_was_deleted_by_hand_holds_and_says_what_to_do(settings: Settings) -> None:
    """Not "first version": the ledger knows of a champion."""
    name, client = "kd-deleted", connect(settings)
    runs = [finished_run(settings, f"deleted-{share}", right(share), overrides=named(name)) for share in (0.7, 0.8)]
    assert [close(run, settings) for run in runs] == [Verdict.PROMOTE, Verdict.PROMOTE]
    client.delete_model_version(name, "2")
    worse = finished_run(settings, "deleted-worse", right(0.65), overrides=named(name))
    assert close(worse, settings) is Verdict.HOLD
    reason = read_result(worse)["reasons"][0]
    assert "version 2 is the champion by the ledger" in reason
    assert "it was deleted from the registry" in reason
    assert "`kd rollback --to 1`" in reason
    assert champion_of(settings, name) is None
    assert len(ledger.history(Storage(settings.store_uri), name)) == 2, "nothing was decided"

    assert promote.rollback(name, settings, to="1") == ("2", "1")
    assert champion_of(settings, name) == "1"
    assert promote.promote(worse, settings).verdict is Verdict.REJECT


@pytest.mark.usefixtures("unproven")
def test_the_whole_model_deleted_by_hand_takes_a_person_to_start_anew(settings: Settings) -> None:
    name, client = "kd-deleted-whole", connect(settings)
    assert close(finished_run(settings, "whole-1", right(0.8), overrides=named(name)), settings) is Verdict.PROMOTE
    client.delete_registered_model(name)
    run = finished_run(settings, "whole-2", right(0.7), overrides=named(name))
    assert close(run, settings) is Verdict.HOLD
    number = read_result(run)["model"]["version"]
    assert promote.rollback(name, settings, to=number)[1] == number
    assert champion_of(settings, name) == number


@pytest.mark.usefixtures("unproven")
def test_a_constant_student_is_rejected_though_it_holds_the_floors(settings: Settings) -> None:
    """Two thirds of the rows are red; a student that says red to everything is right there."""
    rows = labelled_rows(N)
    rows["label"] = np.where(np.arange(N) % 3 == 0, "green", "red")
    run = finished_run(settings, "constant", (rows["label"] == "red").to_numpy(), overrides=named("kd-constant"))
    outs = evaluation((rows["label"] == "red").to_numpy(), rows)
    examples = pd.read_parquet(io.BytesIO(outs["evaluation/details"]["examples.parquet"])).assign(adaptive="red")
    outs["evaluation/details"]["examples.parquet"] = parquet(examples)
    done(run, settings, "evaluate", outs)
    assert close(run, settings) is Verdict.REJECT
    assert "nearly constant: it answers 'red' to 100.0% of the test rows" in read_result(run)["reasons"][0]


@pytest.mark.usefixtures("unproven")
def test_small_losses_are_counted_from_the_first_version(settings: Settings) -> None:
    """Each challenger loses 0.9 points against the champion; the second would make it 1.8, and up to 2.6."""
    name, first = "kd-drift", right(0.9)
    answers, verdicts = first.copy(), []
    for week in range(3):
        if week:
            answers = answers.copy()
            answers[np.flatnonzero(answers)[week::97][:11]] = False
        run = finished_run(settings, f"drift-{week}", answers, overrides=named(name), test_hash="drift")
        verdicts.append(close(run, settings))
    assert verdicts == [Verdict.PROMOTE, Verdict.PROMOTE, Verdict.HOLD]
    assert "the losses accepted since version 1 would exceed" in read_result(run)["reasons"][0]
    events = ledger.history(Storage(settings.store_uri), name)
    assert [(event.proven, event.low is None) for event in events[:2]] == [(True, True), (False, False)]
