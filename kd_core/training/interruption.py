"""Lets a training loop finish the step at hand when its process is asked to stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """While entered, SIGTERM and SIGINT are noted instead of raised, so that no step is torn in two.

    The loop asks `requested` between steps, saves its state and calls `deliver`, which does what the signal would have
    done; leaving the context delivers too. A second signal is delivered at once. Outside the main thread, where Python
    lets nobody handle signals, nothing changes.
    """

    def __init__(self) -> None:
        self._previous: dict[int, Any] = {}
        self._received: int | None = None

    @property
    def requested(self) -> bool:
        """Whether the process was asked to stop."""
        return self._received is not None

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                if signal.getsignal(signum) is not signal.SIG_IGN:
                    self._previous[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        if error is None:
            self.deliver()

    def deliver(self) -> None:
        """Do what the noted signal asked for: its earlier handler, or SystemExit(128 + signal)."""
        if self._received is None:
            return
        handler = self._previous[self._received]
        if callable(handler):
            handler(self._received, None)
        raise SystemExit(128 + self._received)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.requested:
            self.deliver()
        self._received = signum
