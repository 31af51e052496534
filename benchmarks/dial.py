"""Does the dial keep its promise on a real student, and what does it save?

python -m benchmarks.dial --student DIR --data FILE [--calibration 500] [--resplits 300]

The student (a folder as the stage `export` writes it) answers every text of FILE once, at all exits. Then, again and
again, a random part of these texts calibrates a dial, and what each of its points really does is counted on all of
them. A dial at 95 % confidence may break a wish in at most 5 % of the resplits. Beside it: a dial that goes by what it
sees, without a bound.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.inference import disagreement
from kd_core.export.fit_dial import fit_dial
from kd_core.serving.exits.outcomes import Exits
from kd_core.serving.predictor import Predictor

WISHES = (0.005, 0.01, 0.02, 0.05)
CONFIDENCE = 0.95


def main() -> None:
    """Print a line a wish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="Parquet file with the model's text columns")
    parser.add_argument("--calibration", type=int, default=500, help="texts of each resplit")
    parser.add_argument("--resplits", type=int, default=300)
    asked = parser.parse_args()
    rows = pd.read_parquet(asked.data)
    rows = rows.drop_duplicates("group") if "group" in rows.columns else rows
    exits = Predictor.load(asked.student, planned=False).all_exits(rows)
    print(f"{len(rows)} texts, {asked.calibration} of them calibrate, {asked.resplits} resplits, {CONFIDENCE:.0%}")
    found = resplit(exits, asked.calibration, asked.resplits)
    for wish, columns in found.items():
        broken, seen, layers = columns.mean(0)
        print(
            f"wish {wish:.1%}: broken in {broken:.1%} of the resplits (by what is seen: {seen:.1%}); "
            f"counted speed-up {exits.layers[-1] / layers:.2f}×"
        )


def resplit(exits: Exits, calibration: int, resplits: int) -> dict[float, np.ndarray]:
    """Wish → [resplits, 3]: whether it was broken, whether it would have been without a bound, mean layers."""
    uncertainty, generator = exits.uncertainty[:, :-1], np.random.default_rng(0)
    found: dict[float, list[tuple[float, ...]]] = {wish: [] for wish in WISHES}
    for _ in range(resplits):
        chosen = generator.choice(len(uncertainty), size=calibration, replace=False)
        dial = fit_dial(uncertainty[chosen], exits.disagrees[chosen], exits.layers, CONFIDENCE)
        for wish, columns in found.items():
            seen = [point for point in dial.points if point.disagreements <= wish * dial.rows][-1]
            point = dial.at(wish)
            broken, believed = (disagreement(exits, each.thresholds) > wish for each in (point, seen))
            columns.append((broken, believed, float(exits.simulate(point.thresholds).exit_layer.mean())))
    return {wish: np.array(columns, dtype=np.float64) for wish, columns in found.items()}


if __name__ == "__main__":
    main()
