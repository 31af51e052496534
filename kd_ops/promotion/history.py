"""Reads the history of a champion from the ledger: the origin of its losses, and whether it was deleted.

A challenger may be a little worse than the champion and still be promoted. So that small losses do not add up, it is
also compared with the *origin*: the last version that was shown to be better (or the first one). If the origin was
deleted, the oldest champion since then takes its place. The losses accepted before that champion use up part of the
margin, each by the lower bound at its acceptance, since nothing better is known about a deleted version.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kd_ops.promotion.ledger import AliasEvent, last_change


@dataclass(frozen=True)
class Lineage:
    """The version from which losses are counted."""

    version: str
    """The oldest version since the origin that still exists."""
    spent: float = 0.0
    """Losses accepted between the origin and that version; infinite if they are not on record."""
    deleted: str | None = None
    """The origin, if it was deleted."""


def lineage(events: Sequence[AliasEvent], champion: str, existing: Collection[str]) -> Lineage:
    """The version from which the losses of `champion` are counted.

    :param events: the history of the model, oldest first
    :param existing: the versions that the registry still has, including `champion`
    """
    steps = _accepted(events, champion)
    chain = [*(str(step.champion_before) for step in reversed(steps)), champion]
    place = next(index for index, version in enumerate(chain) if version in existing or version == champion)
    bounds = [step.low for step in list(reversed(steps))[:place]]
    spent = sum(math.inf if low is None else max(0.0, -low) for low in bounds)
    return Lineage(chain[place], spent, chain[0] if place else None)


def _accepted(events: Sequence[AliasEvent], champion: str) -> list[AliasEvent]:
    """The promotions, newest first, that led from the origin to `champion`, each accepted as "not worse"."""
    steps: list[AliasEvent] = []
    version = champion
    for event in reversed(events):
        first = event.champion_before is None  # the first of all, or the first after a champion was deleted
        if event.champion_after != version or not (first or event.verdict == "PROMOTE"):
            continue
        if first or event.proven:
            break
        steps.append(event)
        version = str(event.champion_before)
    return steps


def lost_champion(events: Sequence[AliasEvent], existing: Collection[str]) -> str | None:
    """Why there is no champion although the ledger names one, and what to do; None if there never was one."""
    change = last_change(events)
    if change is None or change.champion_after is None:
        return None
    number = change.champion_after
    gone = "it was deleted from the registry" if number not in existing else "its alias was removed by hand"
    earlier = [e.champion_after for e in events if e.champion_after in existing and e.champion_after != number]
    back = number if number in existing else (earlier[-1] if earlier else "VERSION")
    return (
        f"version {number} is the champion by the ledger ({change.verdict} by {change.who} on {change.when}), but "
        f"{gone}, so there is nothing to compare with; name a champion: `kd rollback --to {back}`, or accept "
        "this version by its number in place of it; then promote this run again"
    )
