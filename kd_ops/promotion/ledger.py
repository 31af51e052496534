"""The history of aliases and of the uses of test sets, which MLflow does not keep: one file an event, never rewritten.

`ledgers/aliases/MODEL/000001.json` in the store holds who moved which alias when, from and to which version, with the
verdict and its reasons. Each event is decided with all events before it in view: if two machines decide at once, one
gets the next number and the other re-evaluates. `ledgers/carried_out/MODEL/000001.json` says that the registry
shows what event 1 decided. `ledgers/test_sets/HASH/MODEL-VERSION.json` says that a version was judged on that test set.
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
    """The version that was judged, or that a rollback took the alias from."""
    champion_before: str | None
    champion_after: str | None
    verdict: str
    """PROMOTE, HOLD, REJECT or ROLLBACK."""
    reasons: tuple[str, ...]
    run: str | None
    who: str
    when: str
    proven: bool = False
    """Whether accepted losses are counted from this version: it was shown to be better, and made lost points good."""
    low: float | None = None
    """Lower bound of its difference to the champion before; None where nothing was compared, or that was long ago."""
    number: int = 0
    """Its place in the model's history, from 1; 0 while it has none."""


def append(store: Storage, event: AliasEvent, after: Sequence[AliasEvent]) -> AliasEvent | None:
    """Add an event that was decided in the light of the history `after`; None if that is not the newest any more."""
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
    """The last event that gave the champion alias to another version."""
    return next((event for event in reversed(events) if event.champion_before != event.champion_after), None)


def is_carried_out(store: Storage, event: AliasEvent) -> bool:
    """Whether the registry has shown what the event decided; what it shows since then is somebody's will."""
    return store.exists(_name(CARRIED_OUT, event.model, event.number))


def note_carried_out(store: Storage, event: AliasEvent) -> None:
    """Say that the registry shows what the event decided."""
    store.create(_name(CARRIED_OUT, event.model, event.number), to_json({"when": now()}))


def _name(folder: str, model: str, number: int) -> str:
    return f"{folder}/{model}/{number:06d}.json"


def count_test_use(store: Storage, test_hash: str, model: str, version: str) -> int:
    """Note that `version` is judged on a test set; how many versions have been so far, this one included.

    A decision repeated for the same version looks at nothing new and is counted once.
    """
    place = f"{TEST_SETS}/{test_hash}"
    store.create(f"{place}/{model}-{version}.json", to_json({"when": now()}))
    return len(store.list(place))


def user() -> str:
    """Who is acting; containers often run under a number without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def now() -> str:
    """The time of an event, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
