"""Draws a run at work: bars on a terminal, plain lines every ten seconds in a log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table

from kd_ops.board import Board, StageView

PLAIN_INTERVAL_S = 10.0
_HIDDEN = {"stage", "phase", "done", "total", "unit", "rate", "time"}


class Painter(Protocol):
    """Shows a board; a context manager, so that the terminal is left as it was."""

    def __enter__(self) -> Self:
        """Start drawing."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing."""
        ...

    def show(self, board: Board, finished: list[StageView], note: str) -> None:
        """Draw the state of now; `finished` are the stages that ended since the last call."""
        ...


class LivePainter:
    """Finished stages stay as lines, what is at work now stands below them as bars."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._spinner = Spinner("dots")
        self._live = Live(console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, board: Board, finished: list[StageView], note: str) -> None:
        """Draw the state of now."""
        for view in finished:
            self._console.print(finished_line(view), highlight=False)
        running = board.running()
        rows: list[RenderableType] = [self._row(board, view) for view in running]
        if not running:
            self._spinner.update(text=note)
            rows = [self._spinner]
        self._live.update(Group(*rows))

    def _row(self, board: Board, view: StageView) -> RenderableType:
        event = view.event
        table = Table.grid(padding=(0, 1))
        for _ in range(4):
            table.add_column(no_wrap=True, overflow="ellipsis")
        width = 24 if self._console.width >= 110 else 12
        head = f"[bold cyan]stage {board.position(view.name)}/{len(board.stages)}[/] [bold]{escape(view.name)}[/]"
        phase = escape(str(event.get("phase", "")))
        total = event.get("total")
        bar = ProgressBar(total=float(total), completed=float(event["done"]), width=width) if total else self._spinner
        table.add_row(head, phase, bar, f"[dim]{escape(details(event))}[/]")
        return table


class PlainPainter:
    """One line when a stage ends, and one every ten seconds for what is at work."""

    def __init__(self, console: Console, interval: float = PLAIN_INTERVAL_S) -> None:
        self._console = console
        self._interval = interval
        self._last = time.monotonic()
        self._note = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, board: Board, finished: list[StageView], note: str) -> None:
        """Print what is new."""
        for view in finished:
            self._print(finished_line(view))
        if note != self._note and not board.running():
            self._note = note
            self._print(f"  {note}")
        if time.monotonic() - self._last < self._interval:
            return
        for view in board.running():
            head = f"  stage {board.position(view.name)}/{len(board.stages)} {view.name}"
            self._print(escape(progress_line(head, view.event)))

    def _print(self, line: str) -> None:
        self._last = time.monotonic()
        self._console.print(line, highlight=False, soft_wrap=True)


def painter(console: Console) -> Painter:
    """Bars where there is a terminal to draw them on, lines otherwise."""
    return LivePainter(console) if console.is_terminal else PlainPainter(console)


def finished_line(view: StageView) -> str:
    """The line that stays, with rich's markup: ✓ computed, = taken from the cache, ✗ failed."""
    name = f"{escape(view.name):<32}"
    if view.status == "failed":
        return f"[bold red]✗[/] {name} [red]failed, exit {view.exit_code}[/] after {duration(view.seconds)}"
    if view.cached:
        source = f", computed in run {escape(view.source)}" if view.source else ", taken from the cache"
        return f"[blue]=[/] {name} [dim]unchanged{source}[/]"
    return f"[green]✓[/] {name} {duration(view.seconds):>8}"


def progress_line(head: str, event: dict[str, object]) -> str:
    """One line on how far something is."""
    parts = [head, str(event.get("phase", "")), share(event), details(event)]
    return "  ".join(part for part in parts if part)


def share(event: dict[str, object]) -> str:
    """How much of the phase is done, in percent; empty where the total is not known."""
    done, total = event.get("done"), event.get("total")
    if not isinstance(total, int | float) or not isinstance(done, int | float) or total <= 0:
        return ""
    return f"{min(done / total, 1.0):.0%}"


def details(event: dict[str, object]) -> str:
    """Amount, rate, time left and further numbers of a progress event."""
    parts = []
    done, total, rate, unit = (event.get(key) for key in ("done", "total", "rate", "unit"))
    if isinstance(done, int | float):
        of = f"/{total:,.0f}" if isinstance(total, int | float) else ""
        parts.append(f"{done:,.0f}{of} {unit}")
    if isinstance(rate, int | float) and rate > 0:
        parts.append(f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.1f} {unit}/s")
        if isinstance(total, int | float) and isinstance(done, int | float):
            parts.append(f"{duration(max(total - done, 0) / rate)} left")
    numbers = [(key, value) for key, value in event.items() if key not in _HIDDEN]
    parts += [f"{key} {value:.4g}" for key, value in numbers if isinstance(value, int | float)]
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """A time a person reads at once: 0.4 s, 141 s, 12 min 5 s, 2 h 3 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 180:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
