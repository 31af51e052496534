"""Intervals, comparisons and drift: what numbers prove; numpy only."""
