"""What a served version refuses before it asks the model: requests of too many rows, and a limit that is no number."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from kd_core.serving.predictor import Predictor
from kd_ops.registering.serving_model import StudentServing


class Answering:
    """A predictor that answers with the rows that it is asked."""

    log = None

    def limits(self) -> None:
        return None

    def predict(self, rows: pd.DataFrame, limits: None) -> pd.DataFrame:
        return rows


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    def load() -> Any:
        serving = StudentServing()
        serving.load_context(SimpleNamespace(artifacts={"student": tmp_path}))
        return serving

    monkeypatch.setattr(Predictor, "load", lambda folder, log: Answering())
    return load


def test_a_request_of_too_many_rows_is_refused_with_the_setting(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_REQUEST_ROWS", "3")
    model, rows = served(), pd.DataFrame({"text": ["a", "b", "c", "d"]})
    assert len(model.predict(None, rows[:3])) == 3
    with pytest.raises(MlflowException, match=r"4 rows in one request.*at most 3 \(KD_REQUEST_ROWS\): send") as refused:
        model.predict(None, rows)
    assert refused.value.get_http_status_code() == 400


@pytest.mark.parametrize("given", ["many", "0", "-3", "1.5"])
def test_a_limit_that_is_no_number_of_rows_is_refused(served: Any, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_REQUEST_ROWS", given)
    with pytest.raises(MlflowException, match=f"KD_REQUEST_ROWS: '{given}' is no number of rows"):
        served()


def test_without_the_setting_a_hundred_thousand_rows_are_answered(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KD_REQUEST_ROWS", raising=False)
    assert served()._most_rows == 100_000
