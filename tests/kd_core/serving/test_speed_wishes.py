"""Wishes for speed from the outside: a latency or a throughput, by timings of this machine, and what they cost."""

from __future__ import annotations

import inspect
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from scipy.stats import binomtest

from kd_core.runtime.errors import ParamsError
from kd_core.serving.__main__ import main
from kd_core.serving.folder.profile import Profile
from kd_core.serving.predictor import CHUNK_ROWS, Predictor
from kd_core.serving.speed.costs import Cost, Costs
from kd_core.serving.speed.kept_costs import costs_path
from kd_ops.registering.packing import PARAMS
from tests.helpers.tiny import tiny_rows
from tests.helpers.tiny_exits import exported_student

COSTS = Costs({}, (Cost(1e-3, 1e-5, 0.0),) * 3, Cost(4e-3, 4e-5, 0.0), 0.0, 1000, 1.0, Cost(5e-4, 1e-5, 0.0), 1.0)
"""Calls are dear: a text takes about 1.6, 2.7 or 3.8 ms by its exit, and 4.9 in the whole graph."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_student(tmp_path_factory.mktemp("wishes"), rows=200)


@pytest.fixture
def timed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """A student of which this machine has timings."""
    monkeypatch.setenv("KD_COSTS", str(tmp_path))
    COSTS.write(costs_path(Predictor.load(folder, planned=False).executor) or Path())
    return Predictor.load(folder)


def place(student: Predictor, **wish: float) -> int:
    """Where on the dial, from the safest point on, the wish leads."""
    limits = student.limits(**wish)
    return next(number for number, point in enumerate(student.record.dial.points) if point.thresholds == limits)


def profile(student: Predictor) -> tuple[np.ndarray, np.ndarray]:
    found = Profile.read(student.executor.graphs.folder)
    return found.lengths, found.uncertainty[:, :-1]


def by_hand(student: Predictor, thresholds: tuple[float, ...]) -> np.ndarray:
    """Milliseconds of each text of the profile, alone."""
    found = []
    for length, (first, second) in zip(*profile(student), strict=True):
        segments = 1 if first < thresholds[0] else 2 if second < thresholds[1] else 3
        graphs = segments * (1 + 0.01 * length) if any(thresholds) else 4 + 0.04 * length
        found.append(graphs + 0.5 + 0.01 * length)
    return np.array(found)


def test_a_latency_wish_is_kept_by_the_safest_point(timed: Predictor) -> None:
    dial, seen = timed.record.dial, set()
    for limit, percentile in ((6.0, 0.95), (4.3, 0.95), (3.0, 0.9), (3.0, 0.5), (1.8, 0.5)):
        late = [int((by_hand(timed, point.thresholds) > limit).sum()) for point in dial.points]
        shown = [binomtest(n, 200, 1 - percentile, alternative="less").pvalue <= 1 - dial.confidence for n in late]
        found = place(timed, max_latency_ms=limit, latency_percentile=percentile)
        assert found == shown.index(True)
        seen.add(found)
    assert len(seen) == 5


def test_what_is_found_is_what_answers(timed: Predictor, folder: Path) -> None:
    """Not the full model behind the caller's back: the texts leave as the thresholds say."""
    rows = tiny_rows(60)
    for wish in ({"max_latency_ms": 1.8, "latency_percentile": 0.5}, {"min_throughput": 2500.0}):
        limits = timed.limits(**wish)
        assert any(limits)
        expected = Predictor.load(folder, planned=False).predict(rows, limits)["exit_layer"]
        assert timed.predict(rows, limits)["exit_layer"].tolist() == expected.tolist()


def test_a_throughput_wish_is_kept_by_the_safest_point(timed: Predictor) -> None:
    lengths, uncertainty = profile(timed)
    seconds, mean = [], lengths.mean()
    for point in timed.record.dial.points:
        stays = np.logical_and.accumulate(uncertainty >= point.thresholds, axis=1).mean(0)
        calls = (1e-3 / (1000 / mean) + 1e-5 * mean) * (1 + stays.sum())
        whole = 4e-3 / (1000 / mean) + 4e-5 * mean
        seconds.append((calls if any(point.thresholds) else whole) + 5e-4 / CHUNK_ROWS + 1e-5 * mean)
    wishes = [0.9 / seconds[0], *np.linspace(1.1 / seconds[0], 0.999 / seconds[-1], 4)]
    found = [place(timed, min_throughput=wish) for wish in wishes]
    assert found == [next(n for n, each in enumerate(seconds) if each * wish <= 1) for wish in wishes]
    assert found[0] == 0 < found[1] < found[-1]
    with pytest.raises(ParamsError, match=rf"the fastest is {np.ceil(10 / seconds[-1] - 1) / 10:,} on this machine"):
        timed.limits(min_throughput=1.001 / seconds[-1])


def test_the_more_is_asked_the_less_safe(timed: Predictor) -> None:
    latencies = [place(timed, max_latency_ms=limit, latency_percentile=0.5) for limit in np.linspace(6, 1.7, 40)]
    throughputs = [place(timed, min_throughput=wish) for wish in np.linspace(100, 2500, 40)]
    for found in (latencies, throughputs):
        assert found == sorted(found)
        assert found[0] == 0 < found[-1]


def test_a_wish_that_nothing_keeps_names_the_fastest(timed: Predictor) -> None:
    with pytest.raises(ParamsError, match=r"maximum latency 1 ms: the fastest is .* ms for 50\.0% of") as raised:
        timed.limits(max_latency_ms=1, latency_percentile=0.5)
    fastest = float(str(raised.value).split("the fastest is ")[1].split(" ")[0])
    assert timed.limits(max_latency_ms=fastest, latency_percentile=0.5), "what is said to be possible is"
    with pytest.raises(ParamsError, match=r"for 99\.9% of the texts takes more calibration texts than 200"):
        timed.limits(max_latency_ms=1, latency_percentile=0.999)


@pytest.mark.parametrize("wish", [{"max_latency_ms": 100.0}, {"min_throughput": 1.0}])
def test_without_timings_of_this_machine_nothing_is_promised(
    folder: Path, timed: Predictor, monkeypatch: pytest.MonkeyPatch, wish: dict[str, float]
) -> None:
    assert place(timed, **wish) == 0
    others = Predictor.load(folder, threads=2)
    monkeypatch.delenv("KD_COSTS")
    for student in (Predictor.load(folder), others):
        with pytest.raises(ParamsError, match=r"none of this model with . threads .* run `kd calibrate"):
            student.limits(**wish)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"threshold": 0.1, "max_latency_ms": 5}, "give one of"),
        ({"max_disagreement": 0.1, "min_throughput": 5}, "give one of"),
        ({"max_latency_ms": 5, "min_throughput": 5}, "give one of"),
        ({"latency_percentile": 0.9}, "belongs to a maximum latency"),
        ({"min_throughput": 5, "latency_percentile": 0.9}, "belongs to a maximum latency"),
        ({"max_latency_ms": 0}, "a number above 0"),
        ({"max_latency_ms": float("nan")}, "a number above 0"),
        ({"min_throughput": 0}, "a number above 0"),
        ({"min_throughput": float("inf")}, "a number above 0"),
        ({"max_latency_ms": 5, "latency_percentile": 1}, "between 0 and 1"),
        ({"max_latency_ms": 5, "latency_percentile": 99}, "between 0 and 1"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(timed: Predictor, wish: dict[str, float], said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        timed.limits(**wish)


def test_the_command_keeps_a_wish_and_says_what_it_costs(
    folder: Path, timed: Predictor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tiny_rows(40)["text"].tolist()

    def ask(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(json.dumps(text) + "\n" for text in texts)))
        status = main(["predict", "--model", str(folder), *words])
        return status, *capsys.readouterr()

    status, out, err = ask("--max-latency-ms", "3", "--percentile", "0.5")
    limits = timed.limits(max_latency_ms=3, latency_percentile=0.5)
    assert status == 0
    assert [json.loads(line)["exit_layer"] for line in out.splitlines()] == timed.predict(texts, limits)[
        "exit_layer"
    ].tolist()
    dial = timed.record.dial
    proven = dial.proven(dial.points[place(timed, max_latency_ms=3, latency_percentile=0.5)])
    assert f"note: at most {proven:.2%} of the answers differ from the full model's, at 80% confidence" in err
    assert "note: the full model answers every text" in ask("--min-throughput", "10")[2]
    assert ask("--min-throughput", "10", "--threshold", "0.1")[::2] == (
        64,
        "error: give one of threshold, maximum disagreement, maximum latency and minimum throughput\n",
    )
    assert "note" not in ask()[2]
    monkeypatch.delenv("KD_COSTS")
    status, _, err = ask("--min-throughput", "10")
    assert status == 64
    assert "run `kd calibrate --model …` first" in err


def test_a_served_version_takes_wishes_as_params_and_logs_what_they_cost(
    folder: Path, timed: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kd_ops.registering import serving_model

    assert set(PARAMS) == set(inspect.signature(Predictor.limits).parameters) - {"self"}
    told: list[str] = []
    monkeypatch.setattr(serving_model._LOGGER, "info", lambda text, *values: told.append(text % values))
    serving: Any = serving_model.StudentServing()
    context = SimpleNamespace(artifacts={"student": str(folder)})
    serving.load_context(context)
    rows, nothing = tiny_rows(40), dict.fromkeys(PARAMS, -1.0)
    for params in (None, nothing):
        assert serving.predict(context, rows, params).equals(timed.predict(rows))
    assert not told
    wish = {"max_latency_ms": 3.0, "latency_percentile": 0.5}
    limits = timed.limits(**wish)
    for _ in range(2):
        assert serving.predict(context, rows, nothing | wish).equals(timed.predict(rows, limits))
    assert told == [f"{wish}: {timed.record.dial.promise(limits)}"], "once"
    assert serving.predict(context, rows, nothing | {"threshold": None}).equals(timed.predict(rows)), "null: not given"
    for asked, params, said in (
        (rows, {"min_throughput": 5.0, "threshold": 0.1}, "^give one of"),
        (rows.assign(text=None), {}, "^column 'text': no text in row 1"),
    ):
        with pytest.raises(MlflowException, match=said) as refused:
            serving.predict(context, asked, nothing | params)
        assert refused.value.get_http_status_code() == 400


def test_a_number_is_a_text_as_in_training(student: Predictor) -> None:
    assert student.predict([7, 0.5]).equals(student.predict(["7", "0.5"]))  # type: ignore[list-item]
