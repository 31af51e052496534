"""Teacher scoring of the pre-training data: the texts of stage one."""

from __future__ import annotations

from components.base import Context, run
from components.scoring import score_splits, scoring

COMPONENT = scoring("pretraining", "train", "unlabelled")


def main(context: Context) -> None:
    """Write scores/pretraining/TEACHER."""
    score_splits(context)


if __name__ == "__main__":
    run(COMPONENT, main)
