"""Speed is measured side by side: turns, rows, ratios. No test here depends on how long anything takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from components import measure as component
from components.base import Context
from kd_core.config.evaluation import MeasureParams
from kd_core.evaluation.measurement import measure
from kd_core.evaluation.measurement import reference_workload as reference
from kd_core.evaluation.measurement.contestants import Contestant, all_contestants, at_thresholds, served_student
from kd_core.evaluation.names import TRUNK
from kd_core.rows import write_rows
from kd_core.runtime.errors import InvalidDataError
from kd_core.runtime.progress import Progress
from kd_core.serving.exits.outcomes import Predictions
from kd_core.serving.predictor import Predictor
from tests.helpers.tiny import tiny_rows
from tests.helpers.tiny_exits import TASK
from tests.helpers.tiny_run import CHECKED, tiny_run

MODELS = ["teacher:big", "teacher:small", "pipeline:big", "trunk", "adaptive"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny_run(tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("scratch"), test_rows=10)
    params = MeasureParams(batches=(1, 4), texts=10, repeats=2, threads=1)
    values = {"measure": params.model_dump(mode="json"), "data": {"reference": {"task": TASK.model_dump(mode="json")}}}
    values["evaluate"] = {"thresholds": [0.0, 0.3, 1.0]}
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    component.main(Context(component.COMPONENT, {}, root))
    return root


def test_rows_of_every_model_and_batch(root: Path) -> None:
    found = json.loads((root / "measure/metrics.json").read_text())
    assert found["machine"] == {"cpu": "test", "cores": 2}
    assert (found["threads"], found["texts"], found["repeats"]) == (1, 10, 2)
    assert [(row["model"], row["batch"]) for row in found["rows"]] == [(m, b) for b in (1, 4) for m in MODELS]
    for row in found["rows"]:
        assert row["samples_per_second"] > 0
        assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p99"]
        assert row["size_mb"] > 0
        assert row["parameters"] > 0
    size = {row["model"]: row["parameters"] for row in found["rows"]}
    assert size["teacher:big"] > size["teacher:small"]
    assert size["adaptive"] > size["trunk"]


def test_the_served_model_is_timed_relative_to_the_reference_workload(root: Path) -> None:
    found = json.loads((root / "measure/metrics.json").read_text())["relative_latency"]
    assert set(found) == {"ratio", "reference_ms"}
    assert min(found.values()) > 0


def test_model_and_reference_take_turns_and_the_median_pair_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One slow moment hits a pair, and a slow hour hits both sides of each."""
    clock, order = [0.0], []

    def step(name: str, seconds: list[float]) -> object:
        order.append(name)
        clock[0] += seconds.pop(0)
        return None

    model, work = [9.0, 2.0, 20.0, 300.0], [9.0, 4.0, 40.0, 4.0]
    monkeypatch.setattr(reference.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(reference, "reference_workload", lambda device: lambda: step("work", work))
    contestant = Contestant("adaptive", lambda rows: step("model", model), 1, 1.0)
    found = reference.relative_latency(contestant, [pd.DataFrame({"text": ["a"]})], 3, torch.device("cpu"))
    assert order[2:] == ["model", "work"] * 3
    assert (found.ratio, found.reference_ms) == (0.5, 4000.0)


def test_the_reference_workload_is_always_the_same() -> None:
    """Whatever the state of the generator is; and it leaves that state alone."""
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = reference.reference_workload(torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = reference.reference_workload(torch.device("cpu"))
    assert first().shape == (1, reference.TOKENS, reference.WIDTH)
    assert torch.equal(first(), second())


def test_speed_up_is_over_the_slowest_teacher_at_the_same_batch() -> None:
    speeds = {("teacher:a", 1): 10, ("teacher:b", 1): 20, ("trunk", 1): 40}
    speeds |= {("teacher:a", 8): 100, ("teacher:b", 8): 50, ("trunk", 8): 200}
    rows = [{"model": model, "batch": batch, "samples_per_second": speed} for (model, batch), speed in speeds.items()]
    assert measure._add_speedups(rows) == "teacher:b"
    assert [row["speedup"] for row in rows] == [1.0, 2.0, 4.0, 2.0, 1.0, 4.0]


def test_models_take_turns() -> None:
    """Interleaved, each repeat starting with another model, so that a slow moment does not hit one model alone."""
    calls: list[tuple[str, int]] = []

    def contestant(name: str) -> Contestant:
        return Contestant(name, lambda rows: calls.append((name, len(rows))), 1, 1.0)

    rows = pd.DataFrame({"text": ["a"] * 5})
    names = ["a", "b", "c"]
    seconds = measure.time_all([contestant(name) for name in names], rows, (2,), 3, Progress("measure"))
    warm_up, rest = calls[:3], calls[3:]
    assert warm_up == [(name, 2) for name in names]
    assert [name for name, size in rest if size == 1] == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert {key: [len(repeat) for repeat in value] for key, value in seconds.items()} == {
        (name, 2): [3, 3, 3] for name in names
    }


def test_every_threshold_of_the_curve_is_timed(root: Path) -> None:
    """At the largest batch; 0 is the full model, which stands among the rows."""
    found = json.loads((root / "measure/metrics.json").read_text())
    assert [(point["model"], point["batch"]) for point in found["curve"]] == [("adaptive@0.3", 4), ("adaptive@1", 4)]
    assert all(point["speedup"] > 0 for point in found["curve"])


def test_the_curve_s_speed_is_relative_to_the_full_model_in_the_same_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [TRUNK, "adaptive@0.3", "adaptive@1"]
    contestants = [Contestant(name, lambda rows: None, 1, 1.0) for name in names]
    asked: list[object] = []

    def timed(those: list[Contestant], rows: object, batches: tuple[int], *more: object) -> object:
        asked.append(([each.name for each in those], batches))
        repeats = {TRUNK: [[3.0, 1.0], [9.0, 9.0], [4.0]], "adaptive@0.3": [[2.0]] * 3, "adaptive@1": [[0.5, 0.5]] * 3}
        return {(name, 32): repeats[name] for name in names}

    monkeypatch.setattr(measure, "time_all", timed)
    full = {"model": TRUNK, "batch": 32, "speedup": 8.0}
    points = measure._curve(contestants, pd.DataFrame(), full, Progress("measure"))
    assert asked == [(names, (32,))]
    assert [point["speedup"] for point in points] == [16.0, 32.0], "medians: 4 s against 2 s and 1 s"


def test_thresholds_of_the_curve_are_obeyed(root: Path) -> None:
    folder = root / "models/student"
    predictor = Predictor.load(folder)
    contestants = at_thresholds(predictor, folder, {TRUNK: 0.0, "adaptive@0.3": 0.3, "adaptive@1": 1.0})
    rows = tiny_rows(8)[["text"]]
    for contestant, threshold in zip(contestants, (0.0, 0.3, 1.0), strict=True):
        expected = predictor.predict_rows(rows, threshold)
        np.testing.assert_array_equal(contestant.answer(rows).probabilities, expected.probabilities)
    assert [contestant.name for contestant in contestants] == [TRUNK, "adaptive@0.3", "adaptive@1"]


def test_a_busy_machine_makes_fewer_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "MOST_SECONDS", 0.0)
    contestant = Contestant("a", lambda rows: None, 1, 1.0)
    seconds = measure.time_all([contestant], pd.DataFrame({"text": ["a"]}), (1, 2), 5, Progress("measure"))
    assert {key: len(value) for key, value in seconds.items()} == {("a", 1): 1, ("a", 2): 1}


def test_small_batches_are_timed_on_fewer_texts() -> None:
    rows = pd.DataFrame({"text": ["a"] * 100})
    assert [len(part) for part in measure._batches(rows, 1)] == [1] * 32
    assert [len(part) for part in measure._batches(rows, 32)] == [32, 32, 32, 4]


def test_contestants_answer_the_same_texts(root: Path) -> None:
    rows = tiny_rows(6)[["text"]]
    folder = root / "models/student"
    student, costs = served_student(folder)
    assert student.executor.planner is not None
    assert student.executor.planner.costs == costs
    for contestant in all_contestants(student, folder, root / "teachers", torch.device("cpu")):
        answer = contestant.answer(rows)
        found = answer.probabilities if isinstance(answer, Predictions) else answer
        assert len(found) == 6, contestant.name  # type: ignore[arg-type]


def test_nothing_to_time(root: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / CHECKED / "calibration.parquet", tiny_rows(3).head(0))
    with pytest.raises(InvalidDataError, match="no text to time"):
        measure.measure(
            root / "models/student",
            root / "teachers",
            tmp_path / CHECKED / "calibration.parquet",
            {},
            MeasureParams(),
            Progress("measure"),
        )
