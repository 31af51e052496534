"""Teacher scoring of the reference data: the rows of stage two, and those that determine the teachers' weights."""

from __future__ import annotations

from components.base import Context, run
from components.scoring import score_splits, scoring

COMPONENT = scoring("reference", "train", "valid", "unlabelled")


def main(context: Context) -> None:
    """Write scores/reference/TEACHER."""
    score_splits(context)


if __name__ == "__main__":
    run(COMPONENT, main)
