"""Drift: seen where texts change, not seen where they do not or hardly do, and never a guess on too little."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import chi2_contingency, ks_2samp
from typer.testing import CliRunner

from kd_core.evaluation.statistics.drift import Drift, chi_square, compare, read_log, read_reference
from kd_core.runtime.errors import InvalidDataError, TryAgainError
from kd_core.serving.exits.thresholds import first_exit
from kd_core.serving.folder.profile import NAME, Profile
from kd_core.serving.folder.record import ModelRecord, identity
from kd_core.serving.prediction_log import PredictionLog
from kd_ops import cli
from tests.helpers.fabricated import dial

LAYERS = (1, 2, 3)
THRESHOLDS = (0.2, 0.4)


def uncertainties(rows: int, seed: int, power: float = 2.0, early: int = 2) -> np.ndarray:
    """A smaller power: harder texts."""
    return (np.random.default_rng(seed).random((rows, early + 1)) ** power).astype(np.float32)


def write_profile(folder: Path, layers: Sequence[int], uncertainty: np.ndarray) -> None:
    Profile(np.full(len(uncertainty), 8), uncertainty).write(folder, layers)


def logged(uncertainty: np.ndarray, thresholds: tuple[float, ...] = THRESHOLDS) -> pd.DataFrame:
    exits = first_exit(uncertainty[:, :-1], thresholds)
    entropy = uncertainty[np.arange(len(exits)), exits]
    return pd.DataFrame({"exit_layer": exits + 1, "entropy": entropy, "thresholds": [thresholds] * len(exits)})


def compared(log: pd.DataFrame, rows: int = 1000, **changes: float) -> Drift:
    settings = {"confidence": 0.99, "min_effect": 0.1} | changes
    return compare(log, uncertainties(rows, 0), LAYERS, **settings)


def test_the_same_texts_do_not_drift() -> None:
    """Not even without a bound on the size, beyond the stated share of false alarms."""
    alarms = [compared(logged(uncertainties(2000, seed)), min_effect=0.0).drifted for seed in range(1, 101)]
    assert sum(alarms) <= 4  # P(more of 100 at 1 %) = 0.3 %


def test_harder_texts_drift() -> None:
    found = compared(logged(uncertainties(300, 1, power=1.2)))
    assert found.exit_layers.drifted
    assert found.drifted
    assert found.exits["3"][1] > found.exits["3"][0] + 0.1
    assert found.median_entropy[1] > found.median_entropy[0]
    assert found.exit_layers.effect == pytest.approx(
        sum(abs(log - reference) for reference, log in found.exits.values()) / 2
    )


def test_entropy_alone_is_enough() -> None:
    """With the full model all texts leave at one layer."""
    found = compared(logged(uncertainties(300, 1, power=1.2), (0.0, 0.0)))
    assert found.exits == {"1": (0.0, 0.0), "2": (0.0, 0.0), "3": (1.0, 1.0)}
    assert (found.exit_layers.p_value, found.exit_layers.drifted) == (1.0, False)
    assert found.entropy.drifted
    assert found.drifted


def test_a_tiny_shift_of_a_huge_log_is_no_drift() -> None:
    log = logged(uncertainties(60_000, 1, power=1.9))
    found = compare(log, uncertainties(20_000, 0), LAYERS, confidence=0.99, min_effect=0.1)
    assert found.exit_layers.p_value < 1e-3
    assert found.entropy.p_value < 1e-4
    assert not found.drifted
    assert compare(log, uncertainties(20_000, 0), LAYERS, confidence=0.99, min_effect=0.0).drifted


def test_two_tests_are_corrected() -> None:
    """The smaller p-value counts twice, and the larger is not below it."""
    reference, log = logged(uncertainties(1000, 0)), logged(uncertainties(500, 3, power=1.8))
    exits = [np.bincount(rows["exit_layer"], minlength=4)[1:] for rows in (reference, log)]
    raw = [
        chi2_contingency(np.stack(exits), correction=False).pvalue,
        ks_2samp(reference["entropy"], log["entropy"], method="asymp").pvalue,
    ]
    found = compared(log)
    smallest = 2 * min(raw)
    assert [found.exit_layers.p_value, found.entropy.p_value] == pytest.approx([max(p, smallest) for p in raw])


def test_answers_to_requests_with_other_thresholds_are_left_out() -> None:
    usual, other = logged(uncertainties(300, 1)), logged(uncertainties(200, 2), (1.0, 1.0))
    found = compared(pd.concat([other, usual], ignore_index=True))
    assert (found.answers, found.other_thresholds, found.thresholds) == (300, 200, THRESHOLDS)
    assert not found.drifted


def test_too_few_rows_say_nothing() -> None:
    with pytest.raises(TryAgainError, match=r"99 answers .* needs 100"):
        compared(logged(uncertainties(99, 1)))
    assert compared(logged(uncertainties(100, 1))).answers == 100
    with pytest.raises(TryAgainError, match="no answer of this model in this time"):
        compared(logged(uncertainties(0, 1)))
    with pytest.raises(InvalidDataError, match=r"99 texts only.*data\.reference\.split\.calibration"):
        compared(logged(uncertainties(200, 1)), rows=99)


def test_exits_that_hardly_anyone_uses_are_counted_with_the_next() -> None:
    assert chi_square(np.array([[500, 500, 1], [500, 500, 0]])) == pytest.approx(1.0, abs=0.05)
    assert chi_square(np.array([[1000, 0, 0], [1000, 0, 0]])) == 1.0
    assert chi_square(np.array([[2, 500, 498], [0, 300, 700]])) < 1e-6
    dense = np.array([[100, 200, 300], [120, 180, 300]])
    assert chi_square(dense) == pytest.approx(chi2_contingency(dense, correction=False).pvalue)


def write_log(folder: Path, model: str, log: pd.DataFrame) -> None:
    with PredictionLog(folder, model) as opened:
        for thresholds, rows in log.groupby("thresholds"):
            opened.add(rows.assign(label="red"), thresholds)


def test_only_recent_answers_of_this_model_are_read(tmp_path: Path) -> None:
    log = logged(uncertainties(120, 1))
    write_log(tmp_path / "host one", "m", log)
    write_log(tmp_path / "host two", "m", log.head(20))
    write_log(tmp_path, "former version", log)
    hour = timedelta(hours=1)
    found = read_log(tmp_path, "m", datetime.now(UTC) - hour)
    assert len(found) == 140
    assert set(found["thresholds"]) == {THRESHOLDS}
    assert len(read_log(tmp_path, "m", datetime.now(UTC) + hour)) == 0


def test_a_file_deleted_while_the_log_is_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_log(tmp_path, "m", logged(uncertainties(10, 1)))
    there = list(tmp_path.rglob("*.parquet"))
    monkeypatch.setattr(Path, "rglob", lambda folder, pattern: [*there, folder / "gone.parquet"])
    assert len(read_log(tmp_path, "m", datetime.now(UTC) - timedelta(hours=1))) == 10


def test_logs_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    since = datetime.now(UTC) - timedelta(hours=1)
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(InvalidDataError, match=r"no prediction log; write one with `kd predict --log`"):
            read_log(folder, "m", since)
    write_log(tmp_path / "log", "another", logged(uncertainties(10, 1)))
    with pytest.raises(InvalidDataError, match="none of its 1 files was logged by this model"):
        read_log(tmp_path / "log", "m", since)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "log" / "mine.parquet")
    with pytest.raises(InvalidDataError, match=r"mine\.parquet: not a prediction log"):
        read_log(tmp_path / "log", "m", since)
    (tmp_path / "log" / "mine.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidDataError, match=r"mine\.parquet: not a readable Parquet file"):
        read_log(tmp_path / "log", "m", since)


def test_uncertainties_of_other_exits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="missing"):
        read_reference(tmp_path / NAME, LAYERS)
    write_profile(tmp_path, (1, 3), uncertainties(5, 0, early=1))
    np.testing.assert_array_equal(read_reference(tmp_path / NAME, (1, 3)), uncertainties(5, 0, early=1))
    with pytest.raises(InvalidDataError, match="exits"):
        read_reference(tmp_path / NAME, LAYERS)


@pytest.fixture
def kd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`kd drift` for a model with exits after layers 1 and 2, and 500 answers as hard as `power` says."""
    monkeypatch.setenv("KD_HOME", str(tmp_path / "home"))
    student = tmp_path / "student"
    student.mkdir()
    file = {"file": "onnx/x", "sha256": ""}
    ModelRecord.model_validate(
        {
            "task": {"kind": "classification", "labels": ("red", "blue"), "max_length": 8},
            "hidden": 4, "exits": (1, 2), "precision": "fp32", "segments": (), "whole": file,
            "tokenization": {**file, "max_length": 8, "truncation_side": "right", "pad_id": 0, "token_types": False},
            "thresholds": (0.3,), "max_disagreement": 0.02, "dial": dial(), "weights": "w",
            "profile": {"file": NAME, "sha256": ""},
        }
    ).write(student)  # fmt: skip
    write_profile(student, (1, 2), uncertainties(1000, 0, early=1))

    def invoke(power: float, *words: str, rows: int = 500) -> Any:
        log = logged(uncertainties(rows, 1, power, early=1), (0.3,))
        write_log(tmp_path / f"log{power}", identity(student), log)
        return CliRunner().invoke(cli.app, ["drift", str(tmp_path / f"log{power}"), "--model", str(student), *words])

    return invoke


def test_the_command_s_status_tells(kd: Callable[..., Any]) -> None:
    same = kd(2.0)
    assert same.exit_code == 0, same.output
    assert "no drift" in same.output
    assert "500 answers against 1,000 calibration texts" in same.output
    harder = kd(1.0)
    assert harder.exit_code == 3, "the status that README documents"
    assert "drift" in harder.output.splitlines()[-1]
    assert kd(1.1, "--min-effect", "0.9").exit_code == 0


def test_the_command_as_json(kd: Callable[..., Any]) -> None:
    found = kd(1.0, "--json")
    said = json.loads(found.output)
    assert said["drifted"] is True
    assert said["exit_layers"]["drifted"] is True
    assert said["answers"] == 500
    assert set(said["exits"]) == {"1", "2"}


def test_the_command_says_when_there_is_too_little(kd: Callable[..., Any], tmp_path: Path) -> None:
    assert isinstance(kd(2.0, rows=40).exception, TryAgainError)
    assert isinstance(kd(2.0, "--days", "0").exception, TryAgainError)
    lost = CliRunner().invoke(cli.app, ["drift", str(tmp_path / "none"), "--model", str(tmp_path / "student")])
    assert isinstance(lost.exception, InvalidDataError)
