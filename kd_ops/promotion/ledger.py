"""The history of aliases and of uses of test sets, which MLflow does not keep: one file per event, never rewritten.

`ledgers/aliases/MODEL/000001.json` in the store records who moved which alias when, from and to which version, with the
verdict and its reasons. Each event is decided with knowledge of all events before it: if two machines decide at once,
one gets the next number and the other re-evaluates. `ledgers/carried_out/MODEL/000001.json` records that the registry
shows event 1. `ledgers/test_sets/HASH/MODEL-VERSION.json` records that a version was judged on that test set.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from kd_core.runtime.files import to_json
from kd_core.runtime.storage import Storage

ALIASES = "ledgers/aliases"
CARRIED_OUT = "ledgers/carried_out"
TEST_SETS = "ledgers/test_sets"


@dataclass(frozen=True)
class AliasEvent:
    """One decision about a model version."""

    model: str
    version: str
    """The version that was judged, or that lost the alias by a rollback."""
    champion_before: str | None
    champion_after: str | None
    verdict: str
    """PROMOTE, HOLD, REJECT or ROLLBACK."""
    reasons: tuple[str, ...]
    run: str | None
    who: str
    when: str
    proven: bool = False
    """Whether accepted losses are counted from this version: it was shown to be better, and recovered lost points."""
    low: float | None = None
    """Lower bound of its difference to the previous champion; None without a comparison, and in old events."""
    number: int = 0
    """Its place in the model's history, from 1; 0 before it has one."""


def append(store: Storage, event: AliasEvent, after: Sequence[AliasEvent]) -> AliasEvent | None:
    """Add an event that was decided with the history `after`; None if there are newer events by now."""
    number = after[-1].number + 1 if after else 1
    values = {key: value for key, value in asdict(event).items() if key != "number"}
    data = to_json(values)
    return replace(event, number=number) if store.create(_name(ALIASES, event.model, number), data) else None


def history(store: Storage, model: str) -> list[AliasEvent]:
    """All events of a model, oldest first."""
    events = []
    for name in store.list(f"{ALIASES}/{model}"):
        values = json.loads(store.read(f"{ALIASES}/{model}/{name}"))
        number = int(name.removesuffix(".json"))
        events.append(AliasEvent(**{**values, "reasons": tuple(values["reasons"]), "number": number}))
    return events


def newest(store: Storage, model: str) -> int:
    """Number of the newest event; 0 before the first."""
    names = store.list(f"{ALIASES}/{model}")
    return int(names[-1].removesuffix(".json")) if names else 0


def last_change(events: Sequence[AliasEvent]) -> AliasEvent | None:
    """The last event that moved the champion alias to another version."""
    return next((event for event in reversed(events) if event.champion_before != event.champion_after), None)


def is_carried_out(store: Storage, event: AliasEvent) -> bool:
    """Whether the registry has shown the event's decision; any later change there was made on purpose."""
    return store.exists(_name(CARRIED_OUT, event.model, event.number))


def note_carried_out(store: Storage, event: AliasEvent) -> None:
    """Record that the registry shows the event's decision."""
    store.create(_name(CARRIED_OUT, event.model, event.number), to_json({"when": now()}))


def _name(folder: str, model: str, number: int) -> str:
    return f"{folder}/{model}/{number:06d}.json"


def count_test_use(store: Storage, test_hash: str, model: str, version: str) -> int:
    """Record that `version` is judged on a test set; returns the number of such versions so far, including this one.

    A repeated decision on the same version is counted once, since it reveals nothing new.
    """
    place = f"{TEST_SETS}/{test_hash}"
    store.create(f"{place}/{model}-{version}.json", to_json({"when": now()}))
    return len(store.list(place))


def user() -> str:
    """The name of the acting user; `unknown` in a container that runs under a number without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def now() -> str:
    """The current time in UTC, for an event."""
    return datetime.now(UTC).isoformat(timespec="seconds")
