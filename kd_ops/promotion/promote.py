"""Carries out the gate's decision on a run's registered version: `python -m kd_ops.promotion.promote --run URI`.

It writes the ledger first, then the aliases, then the run's result and tags. If it is run again after a kill, it
carries out the decision in the ledger. If two machines decide at once, the loser of the race re-evaluates against the
new champion.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kd_core.runtime.errors import ParamsError, TryAgainError
from kd_core.runtime.storage import Storage
from kd_ops.base.entry import main_process
from kd_ops.base.locks import exclusive
from kd_ops.base.settings import Settings
from kd_ops.promotion import ledger
from kd_ops.promotion.aliases import settled
from kd_ops.promotion.evidence import Decision, Verdict
from kd_ops.promotion.gathering import judge
from kd_ops.promotion.history import lineage, lost_champion
from kd_ops.promotion.ledger import AliasEvent, last_change
from kd_ops.promotion.rivals import test_hash
from kd_ops.registry.registry import CHALLENGER, CHAMPION, by_alias, connect, version, versions
from kd_ops.runs.outs import Outs
from kd_ops.runs.results import copy_report, read_result, update_result
from kd_ops.runs.runs import Run
from kd_ops.tracking.closing import asked_run, closing_step
from kd_ops.tracking.tracked_stages import set_tags

ROLLBACK = "ROLLBACK"


@dataclass(frozen=True)
class _Case:
    """A decision and its basis."""

    decision: Decision
    events: Sequence[AliasEvent]
    own: AliasEvent | None
    """The run's decision on the version, from the ledger; None if there was nothing to decide."""
    held: bool
    """Whether a later or stronger decision stands, so that nothing is carried out."""

    @property
    def is_last(self) -> bool:
        """Whether nothing has been decided since about any version."""
        return self.own is not None and self.events[-1] == self.own

    @property
    def is_last_of_version(self) -> bool:
        """Whether the version's tags should show this decision."""
        own = self.own
        return own is not None and own == [event for event in self.events if event.version == own.version][-1]


def promote(run: Run, settings: Settings) -> Decision:
    """Judge the version that the run registered, carry out the verdict and record it everywhere.

    A version that was rolled back is held until a person restores it. An earlier decision is carried out again unless
    the champion has changed since. Raises TryAgainError if the run has not been evaluated and registered yet, or if
    somebody moved the champion's alias while the version was judged.
    """
    registered = read_result(run).get("model")
    if not registered:
        raise TryAgainError(
            f"run {run.id}: no version is registered yet; run `python -m kd_ops.registering.register` first"
        )
    name, number = str(registered["name"]), str(registered["version"])
    client, outs, store = connect(settings), Outs.of(run, settings), Storage(settings.store_uri)
    with exclusive(settings, "model", name):
        case = _case(run, outs, client, store, name, number, settings)
        if not case.held:
            settled(client, store, name)
            if case.is_last and case.decision.verdict is not Verdict.PROMOTE:
                client.set_registered_model_alias(name, CHALLENGER, number)
    uses = ledger.count_test_use(store, test_hash(outs), name, number)
    _note(client, run, name, number, case.decision, uses, tag_version=not case.held and case.is_last_of_version)
    copy_report(run, outs)
    return case.decision


def _case(run: Run, outs: Outs, client: Any, store: Storage, name: str, number: str, settings: Settings) -> _Case:
    """The earlier decision, or a new one that is put into the ledger; it is made again if somebody else was faster."""
    while True:
        events, champion = settled(client, store, name)
        before = str(champion.version) if champion else None
        own, existing = _own(events, number, run.id), {str(each.version) for each in versions(client, name)}
        if champion is None and (lost := lost_champion(events, existing)):
            return _Case(Decision(Verdict.HOLD, (lost,)), events, own, held=True)
        if held := _held(events, own, before, number):
            return _Case(held, events, own, held=True)
        if own is not None:
            return _Case(Decision(Verdict(own.verdict), own.reasons), events, own, held=False)
        origin = None if before is None else lineage(events, before, existing)
        decision = judge(run, outs, client, champion, settings, origin)
        if ledger.newest(store, name) != (events[-1].number if events else 0):
            continue
        _check_champion(client, name, before)
        if before == number:
            return _Case(decision, events, None, held=False)
        if event := ledger.append(store, _event(name, number, before, decision, run), events):
            return _Case(decision, [*events, event], event, held=False)


def rollback(name: str, settings: Settings, to: str | None = None) -> tuple[str, str]:
    """Give the champion alias back to an earlier version; returns the versions before and after.

    If the champion was deleted from the registry, any version may be named.

    :param to: the version that gets the alias; None: the champion before the present one, by the ledger
    :raises ParamsError: there never was a champion, there is no such version, or no earlier champion
    :raises TryAgainError: another decision was made at the same moment
    """
    client, store = connect(settings), Storage(settings.store_uri)
    with exclusive(settings, "model", name):
        events, champion = settled(client, store, name)
        before = str(champion.version) if champion else _last_champion(events)
        if before is None:
            raise ParamsError(f"{name} has no champion to roll back")
        after = str(version(client, name, to or _predecessor(events, name, before)).version)
        if champion is not None and after == before:
            raise ParamsError(f"{name} version {after} is the champion already")
        reason = f"rolled back from version {before} to {after}"
        present = before if champion else None
        event = AliasEvent(name, before, present, after, ROLLBACK, (reason,), None, ledger.user(), ledger.now())
        if ledger.append(store, event, events) is None:
            raise TryAgainError(f"{name}: another decision was taken at this moment; look at it, then roll back again")
        settled(client, store, name)
    return before, after


def _last_champion(events: Sequence[AliasEvent]) -> str | None:
    """The champion that the ledger names."""
    change = last_change(events)
    return change.champion_after if change else None


def _own(events: Sequence[AliasEvent], number: str, run_id: str) -> AliasEvent | None:
    """The run's last decision on this version."""
    return next((event for event in reversed(events) if (event.version, event.run) == (number, run_id)), None)


def _held(events: Sequence[AliasEvent], own: AliasEvent | None, before: str | None, number: str) -> Decision | None:
    """Why nothing may be decided or carried out: a rollback, or a decision later than the run's own.

    :param before: the present champion
    """
    changes = [event for event in events if event.champion_before != event.champion_after]
    last = next((e for e in reversed(changes) if number in (e.champion_before, e.champion_after)), None)
    if last is not None and last.verdict == ROLLBACK and last.champion_before == number:
        reason = f"version {number} was rolled back by {last.who} on {last.when}"
        return Decision(Verdict.HOLD, (f"{reason}; `kd rollback --to {number}` brings it back",))
    if own is None:
        return None
    later = [event for event in changes if event.number > own.number]
    if not later and before == own.champion_after:
        return None
    how = f"{later[-1].verdict} by {later[-1].who} on {later[-1].when}" if later else "its alias was moved by hand"
    stands = f"a later decision stands: the champion is version {before or 'none'} ({how})"
    return Decision(Verdict.HOLD, (f"{stands}; this run's verdict was {own.verdict} on {own.when}",))


def _check_champion(client: Any, name: str, judged: str | None) -> None:
    """Raises TryAgainError if the champion is no longer the one in the comparison: a person may move an alias."""
    champion = by_alias(client, name, CHAMPION)
    now = str(champion.version) if champion else None
    if now != judged:
        raise TryAgainError(
            f"{name}: the champion changed from version {judged or 'none'} to {now or 'none'} while the new version "
            "was judged against it; run `python -m kd_ops.promotion.promote` again"
        )


def _event(name: str, number: str, before: str | None, decision: Decision, run: Run) -> AliasEvent:
    return AliasEvent(
        model=name,
        version=number,
        champion_before=before,
        champion_after=number if decision.verdict is Verdict.PROMOTE else before,
        verdict=str(decision.verdict),
        reasons=decision.reasons,
        run=run.id,
        who=ledger.user(),
        when=ledger.now(),
        proven=decision.proven,
        low=decision.numbers.get("low"),
    )


def _predecessor(events: Sequence[AliasEvent], name: str, current: str) -> str:
    for event in reversed(events):
        if event.verdict == Verdict.PROMOTE and event.champion_after == current and event.champion_before:
            return event.champion_before
    raise ParamsError(f"{name}: no champion before version {current} is on record; name one with --to VERSION")


def _note(client: Any, run: Run, name: str, number: str, decision: Decision, uses: int, tag_version: bool) -> None:
    """Write the verdict to result.json and, with its limits, to the tags of the MLflow run.

    :param tag_version: also write the version's tags; False if the run decided nothing about it
    """
    aliases = list(client.get_model_version(name, number).aliases)
    looks = f"this test set has judged {uses} version{'s' if uses > 1 else ''} so far"
    reasons = [*decision.reasons, looks]
    update_result(
        run,
        model={"name": name, "version": number, "aliases": aliases},
        verdict=str(decision.verdict),
        reasons=reasons,
        numbers=decision.numbers,
        test_uses=uses,
    )
    tags = {"kd.verdict": str(decision.verdict), "kd.reasons": json.dumps(reasons), "kd.test_uses": str(uses)}
    tags |= {f"kd.gate.{key}": str(value) for key, value in run.params()["gate"].items()}
    for key, value in tags.items() if tag_version else ():
        client.set_model_version_tag(name, number, key, value)
    if parent := read_result(run).get("mlflow_run"):
        set_tags(client, parent, tags | {"kd.model_version": f"{name}/{number}"})


def promote_step(run: Run, settings: Settings) -> None:
    """Promote as a closing step of the run: print the decision, or record the failure."""
    with closing_step(run, settings, "promote"):
        decision = promote(run, settings)
    print(f"{decision.verdict}: {'; '.join(decision.reasons)}")


def main(argv: list[str] | None = None) -> None:
    """Entry point of the closing task."""
    promote_step(asked_run("kd_ops.promotion.promote", __doc__, argv), Settings())


if __name__ == "__main__":
    main_process(main)
