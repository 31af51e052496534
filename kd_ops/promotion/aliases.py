"""Makes the registry show what the ledger of aliases says.

In MLflow the last write of an alias wins, so the ledger decides, whose events have an order. A process may be killed or
paused between its event and the alias. So the next process carries out what is missing, and a process that has moved an
alias reads the ledger again: the last event holds, whatever the order of the writes. If a person moves an alias by hand
after an event was carried out, it stays where it is.
"""

from __future__ import annotations

from typing import Any

from kd_core.runtime.storage import Storage
from kd_ops.promotion import ledger
from kd_ops.promotion.ledger import AliasEvent
from kd_ops.registry.registry import CHALLENGER, CHAMPION, by_alias, versions


def settled(client: Any, store: Storage, name: str) -> tuple[list[AliasEvent], Any | None]:
    """The history of a model and its champion after the last event is carried out."""
    moved = False
    while True:
        events = ledger.history(store, name)
        change = ledger.last_change(events)
        if change is not None and (moved or not ledger.is_carried_out(store, change)):
            make_champion(client, name, str(change.champion_after))
            moved = True
        champion = by_alias(client, name, CHAMPION)
        if ledger.newest(store, name) == (events[-1].number if events else 0):
            if moved and change is not None:
                ledger.note_carried_out(store, change)
            return events, champion


def make_champion(client: Any, name: str, number: str) -> None:
    """Make a version champion and no longer challenger, unless somebody has deleted it since."""
    if number not in {str(version.version) for version in versions(client, name)}:
        return
    client.set_registered_model_alias(name, CHAMPION, number)
    challenger = by_alias(client, name, CHALLENGER)
    if challenger is not None and str(challenger.version) == number:
        client.delete_registered_model_alias(name, CHALLENGER)
