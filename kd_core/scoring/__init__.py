"""Teachers' scores: computed once for a text, stored by content, read only where they fit."""

from kd_core.scoring.table import read_scores, write_scores

__all__ = ["read_scores", "write_scores"]
