"""Several who decide at once, on one machine or on two: each decision stands on the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kd_core.runtime.errors import TryAgainError
from kd_core.runtime.storage import Storage
from kd_ops.base.settings import Settings
from kd_ops.promotion import aliases, gathering, ledger, promote
from kd_ops.promotion.evidence import Verdict
from kd_ops.registering import register
from kd_ops.registry.registry import connect
from kd_ops.runs.results import read_result
from tests.helpers.fabricated import finished_run
from tests.helpers.promoting import champion_of, close, named, right


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
        return gathering.judge(*words)

    monkeypatch.setattr(promote, "judge", meanwhile)
    with pytest.raises(TryAgainError, match="changed from version 2 to 1"):
        promote.promote(run, settings)
    assert champion_of(settings, name) == "1"
    assert len(ledger.history(Storage(settings.store_uri), name)) == 2


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
    make_champion, asleep = aliases.make_champion, [runs[2]]

    def late(client: Any, model: str, number: str) -> None:
        if asleep and number == "2":
            assert promote.promote(asleep.pop(), elsewhere).verdict is Verdict.PROMOTE
            assert champion_of(settings, name) == "3", "what was decided is carried out by whoever comes next"
        make_champion(client, model, number)

    monkeypatch.setattr(aliases, "make_champion", late)
    assert promote.promote(runs[1], settings).verdict is Verdict.PROMOTE
    assert champion_of(settings, name) == "3"
    changes = [(e.champion_before, e.champion_after) for e in ledger.history(Storage(settings.store_uri), name)]
    assert changes == [(None, "1"), ("1", "2"), ("2", "3")]


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
