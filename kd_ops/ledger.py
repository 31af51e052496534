"""The history of aliases and of the uses of test sets, which MLflow does not keep: one file an event, never rewritten.

`ledgers/aliases/MODEL/000001.json` in the store holds who moved which alias when, from and to which version, with the
verdict and its reasons. `ledgers/test_sets/HASH/MODEL-VERSION.json` says that a version was judged on that test set.
"""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from kd_core.runtime.storage import Storage

ALIASES = "ledgers/aliases"
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


def append(store: Storage, event: AliasEvent) -> None:
    """Add an event after the newest one; two writers at once get two numbers."""
    data = json.dumps(asdict(event), indent=1, ensure_ascii=False).encode()
    number = len(store.list(f"{ALIASES}/{event.model}")) + 1
    while not store.create(f"{ALIASES}/{event.model}/{number:06d}.json", data):
        number += 1


def history(store: Storage, model: str) -> list[AliasEvent]:
    """All events of a model, oldest first."""
    events = []
    for name in store.list(f"{ALIASES}/{model}"):
        values = json.loads(store.read(f"{ALIASES}/{model}/{name}"))
        events.append(AliasEvent(**{**values, "reasons": tuple(values["reasons"])}))
    return events


def count_test_use(store: Storage, test_hash: str, model: str, version: str) -> int:
    """Note that `version` is judged on a test set; how many versions have been so far, this one included.

    A decision repeated for the same version looks at nothing new and is counted once.
    """
    place = f"{TEST_SETS}/{test_hash}"
    store.create(f"{place}/{model}-{version}.json", json.dumps({"when": now()}).encode())
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
