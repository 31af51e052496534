"""Threads side by side, each on texts of its own.

The graphs of a small model hold too little for several threads to compute one call together: handing out the pieces
takes longer than they do. So a call belongs to one thread, and a request with enough in it is divided among all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kd_core.runtime.arrays import Integers


class Lanes:
    """So many threads at once, of which one is the caller's; several callers may share them."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads - 1, "lane") if threads > 1 else None

    def parts(self, lengths: Integers, least: float) -> list[Integers]:
        """Places in `lengths` [N], in one part or more, alike in size, for so many threads as find `least` tokens."""
        if self.threads == 1 or len(lengths) < 2:
            return [np.arange(len(lengths))]
        count = max(int(min(self.threads, len(lengths), lengths.sum() // max(least, 1))), 1)
        order = np.argsort(-lengths, kind="stable")
        return [order[first::count] for first in range(count)]

    def run(self, work: Callable[[Integers], object], parts: Sequence[Integers]) -> None:
        """`work` on every part; raises what it raised, once nobody is at work any more."""
        pending = [(self._pool.submit(work, part), part) for part in parts[1:]] if self._pool else []
        try:
            work(parts[0])
        finally:
            # What no thread has begun, since they serve other callers (or did not survive a fork), is the caller's own.
            own = [part for future, part in reversed(pending) if future.cancel()]
            errors = [future.exception() for future, _ in pending if not future.cancelled()]
        for part in own:
            work(part)
        for error in errors:
            if error is not None:
                raise error
