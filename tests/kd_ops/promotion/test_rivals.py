"""What a registered version answers, counted as its kind of task counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from kd_ops.promotion import rivals

ROWS = pd.DataFrame({"id": ["1", "2", "3"], "text": ["a", "b", "c"]})
SEVERAL = "multi_label_classification"


@pytest.mark.parametrize(
    ("kind", "given", "true", "expected"),
    [
        ("classification", ["x", "y", "x"], ["x", "x", "x"], [1, 0, 1]),
        (SEVERAL, [["x"], [], ["x", "y"]], [["x", "y"], [], ["x", "y"]], [2 / 3, 1, 1]),
        (SEVERAL, [["x", "y"]] * 3, [["x", "y"]] * 3, [1, 1, 1]),
    ],
)
def test_answers_from_a_file_are_counted(
    kind: str, given: list[Any], true: list[Any], expected: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Parquet gives label sets back as arrays, also where all have the same size."""

    def predict(words: list[str]) -> None:
        pd.DataFrame({"label": given}).to_parquet(words[3])

    served = SimpleNamespace(as_named=lambda texts: [], predict=predict)
    monkeypatch.setattr(rivals, "serve_version", lambda version, settings: served)
    pd.DataFrame({"label": true}).to_parquet(tmp_path / "examples.parquet")
    model: Any = SimpleNamespace(kind=kind, labels=("x", "y"))
    asked = rivals.Asked(model, pd.read_parquet(tmp_path / "examples.parquet"), ROWS, None, None, None)  # type: ignore[arg-type]
    assert asked._computed(None)[:, 0].tolist() == pytest.approx(expected)
