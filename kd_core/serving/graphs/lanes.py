"""Threads that work side by side, each on its own texts.

One call of a small model is too little work for several threads: dividing it takes longer than computing it. So one
thread computes a call, and a large enough request is divided among all threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kd_core.runtime.arrays import Integers


class Lanes:
    """A fixed number of threads, one of them the caller's; several callers may share them."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads - 1, "lane") if threads > 1 else None

    def parts(self, lengths: Integers, least: float) -> list[Integers]:
        """Places in `lengths` [N] in one or more parts of similar size, with a mean of at least `least` tokens."""
        if self.threads == 1 or len(lengths) < 2:
            return [np.arange(len(lengths))]
        count = max(int(min(self.threads, len(lengths), lengths.sum() // max(least, 1))), 1)
        order = np.argsort(-lengths, kind="stable")
        return [order[first::count] for first in range(count)]

    def run(self, work: Callable[[Integers], object], parts: Sequence[Integers]) -> None:
        """Run `work` on every part. If it raised, raise that when all threads have finished."""
        pending = [(self._pool.submit(work, part), part) for part in parts[1:]] if self._pool else []
        try:
            work(parts[0])
        finally:
            # The caller takes the parts that no thread has begun: they serve other callers or did not survive a fork.
            own = [part for future, part in reversed(pending) if future.cancel()]
            errors = [future.exception() for future, _ in pending if not future.cancelled()]
        for part in own:
            work(part)
        for error in errors:
            if error is not None:
                raise error
