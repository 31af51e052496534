"""Registration on a real registry: the same weights are one version, and what a run leaves behind with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kd_core.runtime.errors import TryAgainError
from kd_core.runtime.storage import Storage
from kd_ops.base.settings import Settings
from kd_ops.promotion import promote
from kd_ops.registering import register, training_record
from kd_ops.registry.registry import connect, versions
from kd_ops.runs.results import read_result
from tests.helpers.fabricated import fake_student, finished_run, new_run
from tests.helpers.promoting import named, right


def test_a_run_without_a_student_cannot_be_registered(settings: Settings) -> None:
    with pytest.raises(TryAgainError, match="models/student"):
        register.register(new_run(settings, "early"), settings)
    with pytest.raises(TryAgainError, match="no version is registered"):
        promote.promote(new_run(settings, "early"), settings)


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


@pytest.mark.usefixtures("unproven")
def test_from_its_registration_on_nobody_tests_on_what_a_run_trained_on(settings: Settings) -> None:
    """Whatever the gate says, and whether it gets to say anything: a version may be crowned later by hand."""
    other_data = ("data.reference.split.train=1234",)
    run = finished_run(settings, "published", overrides=(*named("kd-published"), *other_data))
    register.register(run, settings)
    folder = Storage(f"{settings.store_uri}/ledgers/route-reference")
    assert run.id in {json.loads(folder.read(name))["run"] for name in folder.list()}
