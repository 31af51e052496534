"""Costs, batches and plans: what timings say is what is decided."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.__main__ import main
from kd_core.serving.folder.profile import Profile
from kd_core.serving.graphs.batches import Batching
from kd_core.serving.graphs.graphs import Feeds, Graphs
from kd_core.serving.predictor import Predictor
from kd_core.serving.speed import timing
from kd_core.serving.speed.costs import Cost, Costs, fit
from kd_core.serving.speed.kept_costs import costs_path, known_costs
from kd_core.serving.speed.plan import SIZES, Planner
from tests.helpers.tiny_exits import exported_student

LENGTHS = np.full(100, 10)
FREE = Cost(0.0, 0.0, 0.0)
COSTS = Costs({}, (FREE,) * 3, FREE, 0.0, 256, 1.0, FREE, 1.0)


def planner(
    call: float, uncertainty: list[float], moved: float = 0.0, outside: Cost = FREE, lanes: float = 1.0
) -> Planner:
    """Three layers of 1 µs a token; `uncertainty`: the share of texts that are unsure at each of two exits."""
    rows = np.arange(100) / 100
    unsure = np.stack([np.where(rows < share, 0.9, 0.1) for share in (*uncertainty, 0.0)], axis=1)
    costs = Costs({}, (Cost(call, 1e-6, 0.0),) * 3, Cost(call, 3e-6, 0.0), moved, 1000, 1.0, outside, lanes)
    return Planner(costs, Profile(LENGTHS, unsure), 16)


def test_a_fit_finds_what_the_timings_were_made_from() -> None:
    true = Cost(2e-4, 3e-6, 4e-8)
    grid = [(rows, length) for rows in (1, 8, 32) for length in (4, 16, 64)]
    found = fit([(*shape, true.of(*shape)) for shape in grid])
    np.testing.assert_allclose([found.call, found.token, found.square], [2e-4, 3e-6, 4e-8], rtol=1e-6)


def test_a_text_by_itself_has_coefficients_of_its_own() -> None:
    alone, batch = Cost(1e-4, 2e-6, 0.0), Cost(5e-4, 3e-6, 0.0)
    grid = [(rows, length) for rows in (1, 8, 32) for length in (4, 16, 64)]
    found = fit([(*shape, (alone if shape[0] == 1 else batch).of(*shape)) for shape in grid])
    for length in (4, 10, 64):
        assert found.of(1, length) == pytest.approx(alone.of(1, length))
        assert found.of(8, length) == pytest.approx(batch.of(8, length))
    later = found.and_beside(1e-5)
    assert later.of(1, 10) == pytest.approx(alone.of(1, 10) + 1e-5)
    assert later.of(8, 10) == pytest.approx(batch.of(8, 10) + 1e-5)


def test_exits_must_pay_for_a_text_by_itself() -> None:
    """In batches calls are free; alone each costs as much as what it computes."""
    dear = Cost(3e-5, 1e-6, 0.0)
    free = planner(0.0, [0.5, 0.0])
    assert free.pays((0.5, 0.5))
    segments = tuple(replace(each, alone=dear) for each in free.costs.segments)
    whole = replace(free.costs.whole, alone=replace(dear, token=3e-6))
    timed = Planner(replace(free.costs, segments=segments, whole=whole), free._profile, 16)
    assert timed.speedup((0.5, 0.5), 1) == pytest.approx((3e-5 + 3e-5) / (1.5 * (3e-5 + 1e-5)))
    assert timed.speedup((0.5, 0.5), 8) == free.speedup((0.5, 0.5), 8)
    assert not timed.pays((0.5, 0.5))


def test_no_coefficient_is_negative() -> None:
    grid = [(rows, length) for rows in (1, 8, 32) for length in (4, 16, 64)]
    found = fit([(rows, length, 1e-5 * rows * length - 1e-6 * length) for rows, length in grid])
    assert min(found.call, found.token, found.square) == 0
    assert found.token > 0


def test_the_share_that_reaches_a_segment_is_of_those_that_left_nowhere_before() -> None:
    profile = Profile(
        LENGTHS[:4], np.array([[0.1, 0.9, 0], [0.9, 0.1, 0], [0.9, 0.9, 0], [0.5, 0.5, 0]], dtype=np.float32)
    )
    np.testing.assert_allclose(profile.reach(np.array([0.5, 0.5])), [1.0, 0.75, 0.5])
    np.testing.assert_allclose(profile.reach(np.array([0.0, 0.0])), [1.0, 1.0, 1.0])


def test_exits_pay_where_texts_leave_and_calls_are_cheap() -> None:
    assert planner(1e-6, [0.1, 0.0]).pays((0.5, 0.5))
    assert not planner(1e-6, [1.0, 1.0]).pays((0.5, 0.5)), "nobody leaves"
    assert not planner(1e-3, [0.6, 0.6]).pays((0.5, 0.5)), "a text alone would wait for several calls"
    assert not planner(1e-6, [0.1, 0.0]).pays((0.0, 0.0)), "nothing to ask"


def test_expected_speed_up_by_hand() -> None:
    """A tenth goes on behind the first exit, nobody behind the second: 3 layers against 1.1, calls being free."""
    assert planner(0.0, [0.1, 0.0]).speedup((0.5, 0.5), 100) == pytest.approx(3 / 1.1)
    assert planner(0.0, [1.0, 1.0]).speedup((0.5, 0.5), 100) == pytest.approx(1.0)
    calls = planner(1e-3, [1.0, 1.0])
    assert calls.speedup((0.5, 0.5), 1) == pytest.approx((1e-3 + 3e-5) / (3e-3 + 3e-5))


def test_a_gain_within_the_error_of_timings_is_none() -> None:
    little, enough = planner(0.0, [0.8, 0.8]), planner(0.0, [0.7, 0.7])
    assert 1 < little.speedup((0.5, 0.5), 1) < 1.2 < enough.speedup((0.5, 0.5), 1)
    assert not little.pays((0.5, 0.5))
    assert enough.pays((0.5, 0.5))


def test_all_sizes_must_be_no_slower() -> None:
    """At this cost of a call a large request gains and a single text loses: the full model, whatever the size."""
    doubtful = planner(1e-4, [0.5, 0.0])
    gains = [doubtful.speedup((0.5, 0.5), size) for size in SIZES]
    assert min(gains) < 1 < max(gains)
    assert not doubtful.pays((0.5, 0.5))


def test_seconds_by_hand() -> None:
    """Half of 100 texts leave behind the first exit, the others behind the last; the whole graph has no exits."""
    half = planner(1e-6, [0.5, 0.5], outside=Cost(1e-3, 1e-5, 0.0))
    alone = np.array([3.3e-5] * 50 + [1.1e-5] * 50) + 1.1e-3
    np.testing.assert_allclose(half.seconds_alone((0.5, 0.5)), alone)
    np.testing.assert_allclose(half.seconds_alone((0.0, 0.0)), [3.1e-5 + 1.1e-3] * 100)
    full, many = 1000 / 10, 2000
    passed = (1 + 0.5 + 0.5) * (1e-6 / full + 1e-5)
    assert half.mean_seconds((0.5, 0.5), many) == pytest.approx(passed + 1e-3 / many + 1e-4)
    assert half.mean_seconds((0.0, 0.0), many) == pytest.approx(1e-6 / full + 3e-5 + 1e-3 / many + 1e-4)


def test_lanes_divide_what_the_graphs_take_for_many_texts() -> None:
    one, two = (planner(0.0, [0.5, 0.5], outside=Cost(0.0, 1e-5, 0.0), lanes=lanes) for lanes in (1.0, 1.6))
    assert one.mean_seconds((0.0, 0.0), 2000) == pytest.approx(3e-5 + 1e-4)
    assert two.mean_seconds((0.0, 0.0), 2000) == pytest.approx(3e-5 / 1.6 + 1e-4)
    np.testing.assert_array_equal(one.seconds_alone((0.5, 0.5)), two.seconds_alone((0.5, 0.5)))


def test_where_exits_do_not_pay_a_text_takes_what_the_whole_graph_takes() -> None:
    dear = planner(1e-3, [0.6, 0.6])
    assert not dear.pays((0.5, 0.5))
    np.testing.assert_array_equal(dear.seconds_alone((0.5, 0.5)), dear.seconds_alone((0.0, 0.0)))
    assert dear.mean_seconds((0.5, 0.5), 100) == dear.mean_seconds((0.0, 0.0), 100)


def test_waiting_pays_for_small_batches_and_dear_calls() -> None:
    dear, free = planner(1e-2, [0.5, 0.5]), planner(0.0, [0.5, 0.5])
    assert dear.waits(1, 2, 10)
    assert not dear.waits(1, 100, 10), "a full batch waits for nobody"
    assert not free.waits(1, 2, 10)
    assert not planner(1e-4, [0.5, 0.5], moved=1.0).waits(1, 2, 10), "copying costs more"


@pytest.mark.parametrize("costs", [None, Costs({}, (), Cost(1e-4, 1e-6, 0.0), 0.0, 256, 1.0, FREE, 1.0)])
def test_each_text_is_in_one_batch_that_fits(costs: Costs | None) -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 500)
    batches = Batching(costs, 256).cut(lengths)
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    assert all(len(rows) * lengths[rows].max() <= 256 for rows in batches)
    tops = [lengths[rows].max() for rows in batches]
    assert tops == sorted(tops, reverse=True)


def test_a_text_longer_than_a_batch_stands_alone_and_no_text_is_no_batch() -> None:
    assert [rows.tolist() for rows in Batching(None, 10).cut(np.array([5, 50, 5]))] == [[1], [0, 2]]
    assert Batching(None, 10).cut(np.array([], dtype=np.int64)) == []


def test_padding_is_cut_where_a_call_costs_less() -> None:
    lengths = np.array([60, *[4] * 20])
    cheap = Costs({}, (), Cost(1e-6, 1e-6, 0.0), 0.0, 4096, 1.0, FREE, 1.0)
    dear = Costs({}, (), Cost(1.0, 1e-6, 0.0), 0.0, 4096, 1.0, FREE, 1.0)
    assert [len(rows) for rows in Batching(cheap).cut(lengths)] == [1, 20]
    assert [len(rows) for rows in Batching(dear).cut(lengths)] == [21]
    packed = replace(cheap, whole=Cost(1e-3, 1e-6, 0.0))
    assert [len(rows) for rows in Batching(packed).cut(lengths)] == [1, 20], "1,120 tokens of padding cost more"
    assert [len(rows) for rows in Batching(replace(packed, padding=0.5)).cut(lengths)] == [21], "a call does"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_student(tmp_path_factory.mktemp("timed"))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_what_padding_costs_is_timed(monkeypatch: pytest.MonkeyPatch, folder: Path, share: float) -> None:
    clock = [0.0]

    class Slow:
        network = Predictor.load(folder).executor.graphs.network

        def whole(self, tokens: Feeds) -> None:
            used = float(tokens["attention_mask"].sum())
            clock[0] += 1e-4 + 1e-6 * (used + share * (tokens["input_ids"].size - used))

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    found = timing._share_of_padding(Slow(), 20)  # type: ignore[arg-type]
    assert found == pytest.approx(share)


def test_timings_are_kept_for_this_model_and_machine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 2)
    executor = Predictor.load(folder).executor
    monkeypatch.delenv("KD_COSTS", raising=False)
    assert known_costs(executor) is None
    assert main(["calibrate", "--model", str(folder)]) == 64
    monkeypatch.setenv("KD_COSTS", str(tmp_path))
    assert known_costs(executor) is None
    assert main(["calibrate", "--model", str(folder)]) == 0
    path = costs_path(executor)
    assert str(path) in capsys.readouterr().out
    found = known_costs(executor)
    assert found is not None
    assert len(found.segments) == 3
    assert found.whole.of(8, 16) > 0
    assert found.outside.of(8, 16) > 0
    assert found.machine["threads"] == 1
    assert json.loads((path or Path()).read_text())["machine"] == found.machine
    assert Predictor.load(folder).executor.planner is not None
    assert Predictor.load(folder, planned=False).executor.planner is None
    assert Predictor.load(folder, threads=2).executor.planner is None, "other threads, other timings"


def test_timings_that_find_no_room_are_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timing, "measure_costs", lambda model: COSTS)
    monkeypatch.setenv("KD_COSTS", str(tmp_path))

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        assert main(["calibrate", "--model", str(folder)]) == 75
    assert "free space, then run again" in capsys.readouterr().err


def test_time_outside_the_graphs_is_taken_without_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, timings = timing._without_graphs(Predictor.load(folder)), {}
    monkeypatch.setattr(Graphs, "_session", lambda *arguments: pytest.fail("a graph was asked"))
    timing._time_outside(model, 8, 6, timings)
    ((rows, tokens),) = timings["outside"]
    assert rows == 8
    assert tokens > 2, "special tokens, and more"


def test_damaged_timings_are_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_COSTS", str(tmp_path))
    path = costs_path(Predictor.load(folder, planned=False).executor)
    assert path is not None
    for content in ("", "[]", "{}", '{"schema_version": 99}', '{"schema_version": 3, "segments": [{}]}'):
        path.write_text(content)
        with pytest.raises(InvalidDataError, match=r"run `kd calibrate` again"):
            Predictor.load(folder)
