"""Number formats of the gate's messages."""

from __future__ import annotations

from kd_core.evaluation.statistics.intervals import Interval


def points(share: float) -> str:
    """0.0123 → +1.23"""
    return f"{share * 100:+.2f}"


def bounds(found: Interval, confidence: float) -> str:
    """The one-sided bounds of a difference, in points."""
    return f"one-sided {confidence:.0%} bounds {points(found.low)} and {points(found.high)}"
