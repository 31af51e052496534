"""Registration, promotion and rollback on a real registry; the student that is packed and served is real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kd_core.evaluation.contamination import TrainedTexts
from kd_core.inference.predictor import Predictor
from kd_core.runtime.errors import InvalidDataError, ParamsError, TryAgainError
from kd_core.runtime.storage import Storage
from kd_ops import aliases, judgement, ledger, promote, register, training_record
from kd_ops.code_snapshot import digest, keep, project_code
from kd_ops.documents import to_yaml
from kd_ops.gate import MINIMUM_GROUPS, Measured, Speed, Verdict
from kd_ops.packing import requirements
from kd_ops.registry import by_alias, connect, tracking_uri, versions
from kd_ops.results import read_result
from kd_ops.runs import Run
from kd_ops.served import ModelProcessError, ServedModel, serve
from kd_ops.settings import Settings
from kd_ops.tracking import track
from tests.code.fabricated import (
    LABELS,
    fake_student,
    finished_run,
    labelled_rows,
    make_settings,
    new_run,
    real_student,
)

N = 1200


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make_settings(tmp_path_factory.mktemp("registry"))


@pytest.fixture
def unproven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the proof of the packed model, for students that are made of bytes only."""
    monkeypatch.setattr(register, "prove", lambda packed, folder: None)


def right(share: float, shift: int = 0) -> np.ndarray:
    """[N] bool, about `share` of them True; `shift` moves which."""
    return (np.arange(N) * 7 + shift) % 100 < share * 100


def named(name: str) -> tuple[str, ...]:
    return (f"registry.name={name}",)


def champion_of(settings: Settings, name: str) -> str | None:
    found = by_alias(connect(settings), name, "champion")
    return None if found is None else str(found.version)


def close(run: Run, settings: Settings) -> Verdict:
    register.register(run, settings)
    return promote.promote(run, settings).verdict


@pytest.mark.slow
def test_a_version_serves_without_the_project_and_holds_no_pickle(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = real_student(tmp_path / "student")
    run = finished_run(settings, "real", right(0.8), student, named("kd-real"))
    registered = register.register(run, settings)
    assert (registered.version, registered.created) == ("1", True)
    assert register.register(run, settings).created is False
    again = finished_run(settings, "real-again", right(0.8), student, named("kd-real"))
    assert register.register(again, settings).version == "1"
    assert len(versions(connect(settings), "kd-real")) == 1
    version = versions(connect(settings), "kd-real")[0]
    assert version.description == "# Card"
    assert version.tags.keys() >= {"kd.git_sha", "kd.data_revision", "kd.dvc_lock", "kd.run", "kd.recipe"}
    assert version.tags["kd.metric.accuracy"] == "0.8"
    served = serve("models:/kd-real/1", settings)
    model = served.code.parent
    example = json.loads((model / "input_example.json").read_text())
    assert "reference calibration text number 0" in json.dumps(example), (
        "test rows are read by evaluate and the gate alone"
    )
    names = {path.name for path in model.rglob("*") if path.is_file()}
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".bin", ".pyc"))]
    requirements = (model / "requirements.txt").read_text()
    assert "onnxruntime==" in requirements
    assert not [name for name in ("torch", "transformers", "+cpu") if name in requirements]
    away = subprocess.run(
        [sys.executable, "-c", ANSWER, str(model)],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        | {"KD_PREDICTION_LOG": str(tmp_path / "log")},
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(away.stdout.splitlines()[-1])
    assert said["code"].startswith(str(model)), "the library is the version's own copy, not the project's"
    assert not said["torch"], "not needed to serve"
    assert said["columns"] == ["label", "probability", "exit_layer", "entropy"]
    assert said["full"] == [2, 2], "threshold 0 in params asks for the full model"
    (log,) = (tmp_path / "log").iterdir()
    asked = pd.read_parquet(log)["thresholds"].map(list).tolist()
    assert asked[::2] == [[0.3], [0.0], [0.3], [0.0], [1.0]], "max_disagreement in params turns the dial"
    assert registered.name == "kd-real"
    monkeypatch.setattr(register, "prove", lambda packed, folder: None)
    assert_champion_answers_anew(settings, tmp_path)


def test_a_version_takes_the_code_of_its_run_along(
    settings: Settings, unproven: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of the project, which may have changed since the student was trained."""
    run = finished_run(settings, "own-code", right(0.8), overrides=named("kd-own-code"))
    code = {**project_code(settings), "kd_core/own.py": b""}
    keep(code, settings.store_uri)
    values = run.params()
    values["resolved"]["code"] = digest(code)
    run.storage.write("params.yaml", to_yaml(values))
    register.register(run, settings)
    assert (serve("models:/kd-own-code/1", settings).code / "kd_core/own.py").is_file()


ANSWER = """\
import json, sys, mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
rows = pandas.DataFrame({"text": ["the apple", "a river"]})
first, full = model.predict(rows), model.predict(rows, params={"threshold": 0.0})
for wish in (0.02, 0.0, 1.0):
    model.predict(rows, params={"max_disagreement": wish})
import kd_core
said = {"torch": "torch" in sys.modules}
said |= {"code": kd_core.__file__, "columns": list(first.columns), "full": [int(x) for x in full["exit_layer"]]}
print(json.dumps(said))
"""


def assert_champion_answers_anew(settings: Settings, tmp_path: Path) -> None:
    """On other test rows than it was evaluated on, the champion is asked again."""
    register_run = Run.named("real", settings)
    assert promote.promote(register_run, settings).verdict is Verdict.PROMOTE
    run = finished_run(
        settings, "other-rows", right(0.9), real_student(tmp_path / "second", 1), named("kd-real"), test_hash="hash2"
    )
    rows = labelled_rows(N)
    champion = Predictor.load(serve("models:/kd-real@champion", settings).student)
    accuracy = float((champion.predict(rows)["label"] == rows["label"]).mean())
    register.register(run, settings)
    decision = promote.promote(run, settings)
    assert decision.verdict is Verdict.PROMOTE
    assert decision.numbers["difference"] == pytest.approx(float(right(0.9).mean()) - accuracy)


@pytest.mark.slow
def test_a_model_that_does_not_answer_is_not_registered(settings: Settings) -> None:
    run = finished_run(settings, "mute", right(0.8), overrides=named("kd-mute"))
    with pytest.raises(InvalidDataError, match="does not answer its own example"):
        register.register(run, settings)
    assert versions(connect(settings), "kd-mute") == []


def test_a_run_without_a_student_cannot_be_registered(settings: Settings) -> None:
    with pytest.raises(TryAgainError, match="models/student"):
        register.register(new_run(settings, "early"), settings)
    with pytest.raises(TryAgainError, match="no version is registered"):
        promote.promote(new_run(settings, "early"), settings)


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
    student = {"inference.json": b'{"labels": ["red"], "text_columns": ["text"]}', "model.safetensors": b"w"}
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
def test_a_version_measured_again_keeps_the_newest_timing_of_its_machine(settings: Settings) -> None:
    """How the champion's doubtful timing is replaced: by a run that comes to the same weights."""

    def tags(run_name: str, **measured: Any) -> tuple[str, str]:
        overrides, student = named("kd-again"), fake_student("again")
        register.register(finished_run(settings, run_name, right(0.8), student, overrides, **measured), settings)
        found = connect(settings).get_model_version("kd-again", "1").tags
        return found["kd.latency_ms"], found["kd.relative_latency"]

    assert tags("again-1", latency=2.0) == ("2.0", "0.5")
    assert tags("again-2", latency=9.0, cpu="another machine's") == ("2.0", "0.5")
    connect(settings).delete_model_version_tag("kd-again", "1", training_record.TAG)
    assert tags("again-3", latency=4.0, relative=0.4) == ("4.0", "0.4")
    assert training_record.TAG in connect(settings).get_model_version("kd-again", "1").tags


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
def test_a_champion_that_changes_while_it_is_judged_against_is_not_replaced(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "kd-race"
    for earlier, share in (("race-1", 0.7), ("race-2", 0.8)):
        assert close(finished_run(settings, earlier, right(share), overrides=named(name)), settings) is Verdict.PROMOTE
    run = finished_run(settings, "race-3", right(0.9), overrides=named(name))
    register.register(run, settings)

    def meanwhile(*words: Any) -> Any:
        connect(settings).set_registered_model_alias(name, "champion", "1")
        return judgement.judge(*words)

    monkeypatch.setattr(promote, "judge", meanwhile)
    with pytest.raises(TryAgainError, match="changed from version 2 to 1"):
        promote.promote(run, settings)
    assert champion_of(settings, name) == "1"
    assert len(ledger.history(Storage(settings.store_uri), name)) == 2


@pytest.fixture
def elsewhere(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Another machine, which shares store, runs and registry, and no lock."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(settings))
    shared = settings.model_dump(include={"store_uri", "runs_uri", "cache_dir"})
    return Settings(home=tmp_path / "elsewhere", **shared)


@pytest.mark.usefixtures("unproven")
def test_of_two_machines_that_promote_at_once_the_second_judges_against_the_first_one_s_champion(
    settings: Settings, elsewhere: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "kd-at-once"
    assert close(finished_run(settings, "at-once-1", right(0.7), overrides=named(name)), settings) is Verdict.PROMOTE
    mine = finished_run(settings, "at-once-mine", right(0.8), overrides=named(name))
    theirs = finished_run(settings, "at-once-theirs", right(0.9), overrides=named(name))
    for run in (mine, theirs):
        register.register(run, settings)
    create, waiting = Storage.create, [theirs]

    def meanwhile(store: Storage, file: str, data: bytes) -> bool:
        if waiting and file.startswith(ledger.ALIASES):  # they decide between our last look and our event
            assert promote.promote(waiting.pop(), elsewhere).verdict is Verdict.PROMOTE
        return create(store, file, data)

    monkeypatch.setattr(Storage, "create", meanwhile)
    assert promote.promote(mine, settings).verdict is Verdict.REJECT
    assert "against version 3" in read_result(mine)["reasons"][0]
    assert champion_of(settings, name) == "3"
    events = [
        (e.version, e.champion_before, e.champion_after) for e in ledger.history(Storage(settings.store_uri), name)
    ]
    assert events == [("1", None, "1"), ("3", "1", "3"), ("2", "3", "3")]


@pytest.mark.usefixtures("unproven")
def test_an_alias_that_is_written_late_does_not_undo_a_later_decision(
    settings: Settings, elsewhere: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "kd-sleepy"
    runs = [finished_run(settings, f"sleepy-{share}", right(share), overrides=named(name)) for share in (0.7, 0.8, 0.9)]
    for run in runs:
        register.register(run, settings)
    promote.promote(runs[0], settings)
    crown, asleep = aliases.crown, [runs[2]]

    def late(client: Any, model: str, number: str) -> None:
        if asleep and number == "2":
            assert promote.promote(asleep.pop(), elsewhere).verdict is Verdict.PROMOTE
            assert champion_of(settings, name) == "3", "what was decided is carried out by whoever comes next"
        crown(client, model, number)

    monkeypatch.setattr(aliases, "crown", late)
    assert promote.promote(runs[1], settings).verdict is Verdict.PROMOTE
    assert champion_of(settings, name) == "3"
    changes = [(e.champion_before, e.champion_after) for e in ledger.history(Storage(settings.store_uri), name)]
    assert changes == [(None, "1"), ("1", "2"), ("2", "3")]


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
def test_two_machines_that_register_the_same_weights_at_once_make_one_version(
    settings: Settings, elsewhere: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, student = "kd-twins", fake_student("twins")
    mine, theirs = (finished_run(settings, f"twins-{who}", None, student, named(name)) for who in ("mine", "theirs"))
    make, found, waiting = register._create, [], [theirs]

    def meanwhile(*words: Any) -> Any:
        if waiting:  # they register between our look and our version
            found.append(register.register(waiting.pop(), elsewhere))
        return make(*words)

    monkeypatch.setattr(register, "_create", meanwhile)
    found.append(register.register(mine, settings))
    assert [(each.version, each.created) for each in found] == [("1", True), ("1", False)]
    assert [str(version.version) for version in versions(connect(settings), name)] == ["1"]
    assert read_result(mine)["model"]["version"] == "1"


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


@pytest.mark.usefixtures("unproven")
def test_from_its_registration_on_nobody_tests_on_what_a_run_trained_on(settings: Settings) -> None:
    """Whatever the gate says, and whether it gets to say anything: a version may be crowned later by hand."""
    other_data = ("data.reference.split.train=1234",)
    run = finished_run(settings, "published", overrides=(*named("kd-published"), *other_data))
    register.register(run, settings)
    folder = Storage(f"{settings.store_uri}/ledgers/route-reference")
    assert run.id in {json.loads(folder.read(name))["run"] for name in folder.list()}


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
        patch.setattr(aliases, "crown", stop)
        with pytest.raises(SystemExit):
            promote.promote(run, settings)
    assert champion_of(settings, "kd-cut") == "1"
    assert promote.promote(run, settings).verdict is Verdict.PROMOTE
    assert champion_of(settings, "kd-cut") == "2"
    assert len(ledger.history(Storage(settings.store_uri), "kd-cut")) == 2


def test_a_champion_reads_the_test_rows_under_their_own_names(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its training data may have called another column `text`."""
    (tmp_path / "inference.json").write_text(json.dumps({"columns": {"text": "text_pair"}}))
    asked: list[str] = []

    def answered(self: ServedModel, arguments: list[str]) -> None:
        asked.extend(arguments)
        labelled_rows(3)[["label"]].to_parquet(arguments[arguments.index("--output") + 1])

    monkeypatch.setattr(ServedModel, "predict", answered)
    monkeypatch.setattr(judgement, "serve_version", lambda version, settings: ServedModel(tmp_path, tmp_path))
    model = Measured("new", LABELS, 0.8, 0.9, 2.0, Speed(None, None, None))
    assert judgement._computed_scores(None, model, labelled_rows(3), labelled_rows(3), settings).all()
    assert asked[-2:] == ["--column", "text=text"]


def test_of_two_writers_of_the_ledger_the_second_has_to_look_again(tmp_path: Path) -> None:
    store = Storage(tmp_path)

    def event(version: str) -> ledger.AliasEvent:
        return ledger.AliasEvent("m", version, None, None, "HOLD", ("why",), None, "me", ledger.now())

    for version in ("1", "2", "3"):
        assert ledger.append(store, event(version), ledger.history(store, "m")) is not None
    known = ledger.history(store, "m")
    first, second = (ledger.append(store, event(version), known) for version in ("4", "5"))
    assert (first and first.number, second) == (4, None)
    (tmp_path / "ledgers/aliases/m/000002.json").unlink()
    after = ledger.append(store, event("5"), ledger.history(store, "m"))
    assert (after and after.number) == 5, "a lost event does not make the next one collide"
    assert [(e.version, e.number) for e in ledger.history(store, "m")] == [("1", 1), ("3", 3), ("4", 4), ("5", 5)]


def test_each_version_judged_on_a_test_set_counts_once(tmp_path: Path) -> None:
    store = Storage(tmp_path)
    judged = [("a", "m", "1"), ("a", "m", "1"), ("a", "m", "2"), ("a", "other", "2"), ("b", "m", "3")]
    assert [ledger.count_test_use(store, *each) for each in judged] == [1, 1, 2, 3, 1]


def test_addresses_of_models_that_are_not_there(settings: Settings) -> None:
    for address, said in {
        "models:/nothing@champion": "has the alias",
        "models:/nothing/3": "no version 3",
        "models:/nothing": "models:/NAME@ALIAS",
        "/no/such/folder": "no such folder",
    }.items():
        with pytest.raises(ParamsError, match=said):
            serve(address, settings)


def test_pinned_requirements_cover_what_serving_imports() -> None:
    """Every distribution that the predictor imports is pinned, or is needed by one that is."""
    listed = subprocess.run(
        [sys.executable, "-c", IMPORTED, *(pin.split("==")[0] for pin in requirements())],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert json.loads(listed.stdout.splitlines()[-1]) == []


IMPORTED = """\
import importlib.metadata as m, json, re, sys
import kd_core.inference.predictor
owners = m.packages_distributions()
pinned, seen = list(sys.argv[1:]), set()
while pinned:
    name = re.sub(r"[-_.]+", "-", pinned.pop()).lower()
    if name in seen:
        continue
    seen.add(name)
    try:
        needs = m.requires(name) or []
    except m.PackageNotFoundError:
        continue
    pinned += [re.split(r"[ ;<>=!~\\[(]", need)[0] for need in needs if "extra ==" not in need]
import ast, pathlib
direct = set()
for module in list(sys.modules.values()):
    if getattr(module, "__name__", "").startswith("kd_core"):
        for node in ast.parse(pathlib.Path(module.__file__).read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            direct |= {name.split(".")[0] for name in names} - {"kd_core"}
def known(module):
    return any(re.sub(r"[-_.]+", "-", owner).lower() in seen for owner in owners[module])
missing = sorted(module for module in direct if module in owners and not known(module))
print(json.dumps(missing))
"""


def test_errors_of_the_model_process_are_passed_on() -> None:
    error = ModelProcessError(65, "Traceback\nerror: no column 'text'\n")
    assert (str(error), error.status) == ("no column 'text'", 65)
    assert ModelProcessError(-15, "").status == 143
