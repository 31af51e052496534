"""Planted students that are registered and judged, and what a person asks the registry about them."""

from __future__ import annotations

import numpy as np

from kd_ops.base.settings import Settings
from kd_ops.promotion import promote
from kd_ops.promotion.evidence import Verdict
from kd_ops.registering import register
from kd_ops.registry.registry import by_alias, connect
from kd_ops.runs.runs import Run

N = 1200


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
