"""What a run looks like on a terminal, in a log and as JSON; drawn from recorded progress events."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from kd_core.runtime.errors import InvalidDataError, ParamsError, TryAgainError
from kd_core.runtime.storage import Storage
from kd_ops.base.settings import Settings
from kd_ops.display.board import Board, StageView
from kd_ops.display.show import cost, describe, find_run, print_plan, print_run
from kd_ops.display.summary import cache_line, facts, print_summary
from kd_ops.display.terminal import LivePainter, PlainPainter, finished_line, painter
from kd_ops.resolving.plan import StagePlan
from kd_ops.runs.events import details, duration, last_event, share
from kd_ops.runs.outs import Outs
from kd_ops.runs.results import update_result
from kd_ops.runs.runs import Run, StageRecord
from tests.helpers.fabricated import done, finished_run, new_run

EVENT = {"stage": "pretrain", "phase": "epoch 2/4", "done": 3000, "total": 12000, "unit": "rows", "rate": 1500.0}
EVENT |= {"time": 1.0, "loss": 1.23456}


def console(width: int = 140, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)


def text(of: Console) -> str:
    assert isinstance(of.file, io.StringIO)
    return of.file.getvalue()


def working(settings: Settings) -> Run:
    """One stage done, one cached, one at work."""
    run = new_run(settings, "working")
    done(run, settings, "ingest@reference", {}, seconds=3.2)
    cached = done(run, settings, "teach@minilm_l6", {"teachers/minilm_l6": b"t"}, cached=True, key="0123")
    place = f"provenance/{cached.outs['teachers/minilm_l6']}/teach@minilm_l6/0123.json"
    Storage(settings.store_uri).write(place, json.dumps({"run": "earlier"}).encode())
    run.write_stage(StageRecord("pretrain", tries=1))
    run.storage.write("progress/pretrain.jsonl", (json.dumps(EVENT) + "\n" + '{"stage": "pretr').encode())
    return run


NAMES = ["ingest@reference", "teach@minilm_l6", "pretrain", "report"]


def board_of(run: Run, settings: Settings) -> Board:
    return Board(run, NAMES, Storage(settings.store_uri))


def test_the_board_knows_what_ended_and_what_is_at_work(settings: Settings) -> None:
    board = board_of(working(settings), settings)
    assert [view.name for view in board.poll()] == NAMES[:2]
    assert board.poll() == [], "each end is told once"
    assert [view.name for view in board.running()] == ["pretrain"]
    assert board.running()[0].event == EVENT, "a line that is still being written is passed over"
    assert board.stages["teach@minilm_l6"].source == "earlier"
    assert board.position("pretrain") == 3


def test_a_failure_and_its_retry_are_both_told(settings: Settings) -> None:
    run = working(settings)
    board = board_of(run, settings)
    board.poll()
    for tries in (1, 2):
        run.write_stage(StageRecord("pretrain", "failed", exit_code=75, tries=tries, error="error: later"))
        assert [(view.status, view.tries) for view in board.poll()] == [("failed", tries)]
        assert board.poll() == []
    run.write_stage(StageRecord("pretrain", "done", exit_code=0, tries=3))
    assert [view.status for view in board.poll()] == ["done"]
    assert board.failed() == []


def test_a_log_gets_lines_with_share_rate_time_left_and_loss(settings: Settings) -> None:
    run, out = working(settings), console()
    board = board_of(run, settings)
    with PlainPainter(out, interval=0.0) as plain:
        plain.show(board, board.poll(), "preparing")
        plain.show(board, board.poll(), "preparing")
    lines = text(out).splitlines()
    assert lines[0].startswith("✓ ingest@reference")
    assert lines[0].endswith("3.2 s")
    assert lines[1].startswith("= teach@minilm_l6")
    assert lines[1].endswith("unchanged, computed in run earlier")
    assert "stage 3/4 pretrain  epoch 2/4  25%" in lines[2]
    assert "1,500 rows/s · 6.0 s left · loss 1.235" in lines[2]
    assert "\x1b" not in text(out)


def test_a_log_is_not_flooded(settings: Settings) -> None:
    run, out = working(settings), console()
    board = board_of(run, settings)
    with PlainPainter(out, interval=60.0) as plain:
        for _ in range(50):
            plain.show(board, board.poll(), "preparing")
    assert len(text(out).splitlines()) == 2


def test_a_terminal_gets_a_bar(settings: Settings) -> None:
    run, out = working(settings), console(terminal=True)
    board = board_of(run, settings)
    with LivePainter(out) as live:
        live.show(board, board.poll(), "preparing")
    said = text(out)
    assert "stage 3/4 pretrain" in said
    assert "━" in said
    assert "6.0 s left" in said


def test_bars_are_drawn_on_terminals_only() -> None:
    assert isinstance(painter(console(terminal=True)), LivePainter)
    assert isinstance(painter(console()), PlainPainter)


def test_events_without_total_or_rate_are_shown_as_far_as_they_go() -> None:
    assert share({"done": 5, "total": None}) == ""
    assert share({"done": 5, "total": 0}) == ""
    assert details({"done": 5, "total": None, "unit": "files", "rate": 0.0}) == "5 files"
    assert details({}) == ""


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.42, "0.4 s"), (141.3, "141 s"), (725, "12 min 5 s"), (7380, "2 h 3 min")]
)
def test_durations_read_at_once(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_names_with_brackets_are_not_markup() -> None:
    assert "\\[red]" in finished_line(StageView("a[red]", "done"))


def test_everything_cached_says_nothing_to_compute() -> None:
    cached = [StageView("a", "done", cached=True), StageView("b", "done", cached=True)]
    assert cache_line(cached, 4.0).startswith("nothing to compute")
    assert cache_line([*cached, StageView("c", "done")], 4.0).startswith("1 of 3 stages computed, 2 unchanged")


def test_the_gap_is_claimed_only_where_the_summary_has_it() -> None:
    found = {"value": 0.76, "adaptive": 0.71}
    assert any("gap closed: [bold]76%" in line for line in facts({"gap_closed": found}))
    assert not any("gap closed" in line for line in facts({"gap_closed": None, "gap_conclusion": "no gap to close"}))


def test_show_prints_every_model_with_interval_and_speed(settings: Settings) -> None:
    run, out = finished_run(settings, "shown"), console(width=80)
    run.storage.write("result.json", json.dumps({"verdict": "HOLD", "reasons": ["underpowered: too few"]}).encode())
    print_run(out, run, settings)
    said = text(out)
    rows = [" ".join(line.split()) for line in said.splitlines() if len(line) <= 80]
    assert "Teacher minilm_l6 86.2% 84.2–88.2 86.7 310 1.0× 10.3" in rows
    assert "Student, early exits 84.3% 82.3–86.3 17.6 5,200 16.8× 0.6" in rows
    assert "TF-IDF, logistic regression 77.1% 75.1–79.1 – – – –" in rows
    assert "Student fine-tuned alone" in said
    assert "speed-up at batch 32, ms at batch 1" in said
    assert "Early exits: at batch 1 …" in said
    assert "gap closed: 76% (early exits: 71%)" in said
    assert "HOLD" in said
    assert "underpowered: too few" in said


@pytest.mark.parametrize(
    ("report", "link"), [("s3://runs/one/report.html", "s3://runs"), ("/runs/one/report.html", "file:///runs")]
)
def test_the_report_is_linked_where_it_lies(report: str, link: str) -> None:
    out = Console(file=io.StringIO(), width=140, force_terminal=True)
    print_summary(out, {}, {}, report)
    assert f";{link}/one/report.html" in text(out)


def test_json_has_exactly_the_promised_keys(settings: Settings) -> None:
    run = finished_run(settings, "json")
    run.storage.write("report/report.html", b"<html>")
    said = json.loads(json.dumps(describe(run, settings)))
    assert list(said) == ["run", "stages", "metrics", "model", "report"]
    assert said["run"] == "json"
    assert said["stages"]["evaluate"] == {"status": "done", "cached": False, "seconds": 2.0}
    assert said["metrics"]["evaluation"]["models"]["teacher:minilm_l6"]["accuracy"] == 0.9
    assert Path(said["report"]).is_file()
    assert said["model"] is None


def test_the_newest_run_is_shown_unless_one_is_named(settings: Settings) -> None:
    with pytest.raises(ParamsError, match="no run below"):
        find_run(None, settings)
    for name in ("a-run", "b-run"):
        new_run(settings, name)
    assert find_run(None, settings).id == "b-run"
    assert find_run("a-run", settings).id == "a-run"
    with pytest.raises(ParamsError, match="c-run"):
        find_run("c-run", settings)


def test_a_plan_names_what_changed() -> None:
    out = console()
    print_plan(
        out, [StagePlan("ingest@reference", hit=True), StagePlan("teach@a", False, ("x.py changed", "p: 1 → 2"))]
    )
    lines = text(out).splitlines()
    assert lines[0].startswith("= HIT  ingest@reference")
    assert "• MISS teach@a" in lines[1]
    assert "x.py changed" in lines[1]
    assert lines[2].strip() == "p: 1 → 2"
    assert lines[-1] == "1 of 2 stages would be computed"


def test_outs_are_read_by_name_whole_or_in_part(settings: Settings, tmp_path: Path) -> None:
    run = finished_run(settings, "outs")
    outs = Outs.of(run, settings)
    folder = outs.fetch("models/student", tmp_path / "student")
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    assert outs.read("report/report.html") == b"<html>"
    assert outs.fetch("evaluation/metrics.json", tmp_path / "m.json").is_file()
    for missing, error in (
        ("models/none", TryAgainError),
        ("report/none", InvalidDataError),
        ("evaluation/metrics.json/none", InvalidDataError),
    ):
        assert missing not in outs
        with pytest.raises(error):
            outs.read(missing)


def test_outs_come_from_the_remote_where_this_machine_has_none(settings: Settings) -> None:
    run = finished_run(settings, "remote")
    remote = Path(settings.store_uri) / "dvc"
    settings.cache_dir.rename(remote)
    assert Outs.of(run, settings).read("report/model_card.md") == b"# Card"


def test_no_event_yet(settings: Settings) -> None:
    assert last_event(new_run(settings, "silent"), "pretrain") == {}


def test_the_cost_of_orchestration_is_shown(settings: Settings) -> None:
    """All of `kd run` without the stages' own work; of a scheduler's run only what the bridges took is known."""
    run = new_run(settings, "costs")

    def said() -> str:
        shown = console(160)
        print_run(shown, run, settings)
        return text(shown)

    assert "CPU-seconds" not in said()
    run.write_stage(StageRecord("evaluate", "done", overhead_cpu_seconds=0.5, command_cpu_seconds=30.0))
    run.write_stage(StageRecord("report", "done", overhead_cpu_seconds=1.0))
    assert "bridges        1.5 CPU-seconds, 0.75 a stage" in said()
    assert "orchestration" not in said()
    update_result(run, cpu_seconds=40.0)
    assert "orchestration  10.0 CPU-seconds, 5.00 a stage" in said()


def test_what_containers_cost_is_shown_where_their_price_is_known(settings: Settings) -> None:
    run = finished_run(settings, "priced")
    assert cost(run) is None
    for name, spent in (("evaluate", 0.25), ("report", None), ("finetune", 1.5)):
        run.write_stage(StageRecord(name, "done", cost=spent))
    assert cost(run) == 1.75
    console = Console(record=True, width=160)
    print_run(console, run, settings)
    assert "cost           1.75" in console.export_text()
