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

from kd_ops.display.board import Board, StageView
from kd_ops.runs.events import details, duration, progress_line

PLAIN_INTERVAL_S = 10.0


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
