"""How much work near-duplicate groups take: pairs compared and seconds, for templates and for natural texts.

`python -m benchmarks.near_duplicates --rows 10000 100000`
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from kd_core.data.splits import near_duplicates
from kd_core.data.splits.words import Words, word_set

SIMILARITY = 0.8
TEMPLATES = {
    "8 words, 3 of 70 values each": (8, 3, 70),
    "8 words, 2 of 550 values each": (8, 2, 550),
    "12 words, 4 of 30 values each": (12, 4, 30),
    "16 words, 5 of 20 values each": (16, 5, 20),
}
"""Words of a text, slots among them, values that a slot takes."""


def filled(rows: int, words: int, slots: int, values: int) -> list[Words]:
    """Texts of one template, its slots filled by chance; the same each time."""
    draw = random.Random(0)
    fixed = " ".join(f"word{number}" for number in range(words - slots))
    return [
        word_set(" ".join([fixed, *(f"slot{slot}value{draw.randrange(values)}" for slot in range(slots))]))
        for _ in range(rows)
    ]


def natural(rows: int) -> list[Words]:
    """The questions of banking77 in KD_SHARED_DATA; empty without it."""
    root = os.environ.get("KD_SHARED_DATA")
    texts: list[str] = []
    for name in ("train", "test") if root else ():
        with (Path(str(root)) / f"banking77/{name}.csv").open(encoding="utf-8", newline="") as file:
            texts += [row["text"] for row in csv.DictReader(file)]
    return [word_set(text) for text in texts[:rows]]


def lines(rows: int) -> Iterator[str]:
    """A line of the table for each kind of text."""
    kinds = {name: filled(rows, *shape) for name, shape in TEMPLATES.items()} | {"banking77": natural(rows)}
    for name, sets in kinds.items():
        if sets:
            began = time.process_time()
            groups, compared = near_duplicates.counted_groups(sets, SIMILARITY)
            seconds = time.process_time() - began
            yield f"| {name} | {len(sets):,} | {len(set(groups)):,} | {compared:,} | {seconds:.1f} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.near_duplicates", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    options = parser.parse_args(argv)
    print("| texts | rows | groups | pairs compared | CPU-seconds |\n|---|---|---|---|---|")
    for rows in options.rows:
        for line in lines(rows):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
