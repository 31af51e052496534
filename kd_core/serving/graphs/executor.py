"""The depth-pool executor: certain texts leave early, the others are repacked by depth and length.

A graph cannot stop in its middle, so there is one for each group of layers between two exits. Batches enter from the
longest texts to the shortest. After a segment, texts whose exit is certain enough are answered; the others go on at
once, or wait in the pool of their depth until it holds a batch. The deepest pool with a full batch is served first, so
that at most a batch or two of hidden states waits at each depth, however large the request.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kd_core.runtime.arrays import Booleans, Integers
from kd_core.runtime.cpu import usable_threads
from kd_core.serving.exits.outcomes import Exits, Predictions
from kd_core.serving.exits.thresholds import Thresholds, per_exit
from kd_core.serving.folder.network import IDS, MASK, TYPES
from kd_core.serving.graphs.batches import Batching
from kd_core.serving.graphs.graphs import Feeds, Floats, Graphs
from kd_core.serving.graphs.lanes import Lanes
from kd_core.serving.graphs.pools import Parked, Pool, pack
from kd_core.serving.graphs.tokens import Tokens, mask, padded
from kd_core.serving.speed.plan import Planner
from kd_core.tasks import decide


class Executor:
    """Answers tokens with the graphs of one folder; it keeps no state between requests."""

    def __init__(
        self,
        graphs: Graphs,
        planner: Planner | None = None,
        batch_tokens: int | None = None,
        threads: int | None = None,
    ) -> None:
        """:param threads: threads that share a request; None: OMP_NUM_THREADS, or all cores"""
        self.graphs, self.planner = graphs, planner
        self.lanes = Lanes(threads or usable_threads())
        self._network = graphs.network
        self.batching = Batching(planner.costs if planner else None, batch_tokens)

    def answer(self, tokens: Tokens, thresholds: Thresholds) -> Predictions:
        """Answers to N texts, in order; no answer depends on the other texts (fp32, static int8: to 1e-5).

        If the planner expects exits to be slower on this machine, the whole graph answers.

        :param thresholds: one, or one for each exit but the last; an exit with 0 is not used; all 0: the full model
        :raises ParamsError: wrong number of thresholds, or one outside [0, 1]
        """
        limits = self.followed(thresholds)
        found = self._nothing(tokens)
        if any(limits):
            self._divide(tokens, lambda rows: _Run(self, tokens, rows, limits, found).serve())
            return found

        def whole(rows: Integers) -> None:
            for batch in self.batching.cut(tokens.spans, rows):
                tokens.put(found.probabilities, batch, self.graphs.whole(self.feeds(tokens, batch)))

        self._divide(tokens, whole)
        found.entropy[:] = decide.of(found.kind).uncertainty(found.units)
        return found

    def _divide(self, tokens: Tokens, work: Callable[[Integers], object]) -> None:
        """Run `work` on the places of all texts, divided among threads if each part takes longer than a call costs."""
        if len(tokens) < 2 or self.lanes.threads == 1:  # counting tokens would take a fifth of a fast graph's time
            work(np.arange(len(tokens)))
            return
        length = int(tokens.lengths.mean())
        self.lanes.run(work, self.lanes.parts(tokens.spans, self.batching.call_in_tokens(length)))

    def followed(self, thresholds: Thresholds) -> tuple[float, ...]:
        """These thresholds, one for each exit but the last; all 0 if the planner expects exits to be slower here."""
        limits = per_exit(thresholds, len(self._network.exits) - 1)
        return limits if self.planner is None or self.planner.pays(limits) else (0.0,) * len(limits)

    def all_exits(self, tokens: Tokens) -> Exits:
        """The answers of every exit to N texts, in order."""
        exits = self._network.exits
        found = np.zeros((tokens.unit_count, len(exits), len(self._network.task.labels)), dtype=np.float32)

        def through(rows: Integers) -> None:
            for batch in self.batching.cut(tokens.spans, rows):
                hidden, answers = self.graphs.first(self.feeds(tokens, batch))
                tokens.put(found[:, 0], batch, answers)
                for index in range(1, len(exits)):
                    hidden, answers = self.graphs.following(index, hidden, known(tokens, batch, hidden.shape[1]))
                    tokens.put(found[:, index], batch, answers)

        self._divide(tokens, through)
        return Exits(exits, found, self._network.task.kind, tokens.offsets)

    def feeds(self, tokens: Tokens, rows: Integers) -> Feeds:
        """A padded batch of token ids, and the units of its texts."""
        length = int(tokens.lengths[rows].max())
        ids = padded(tokens.ids, rows, length, self._network.tokenization.pad_id)
        types = {} if tokens.types is None else {TYPES: padded(tokens.types, rows, length, 0)}
        return {IDS: ids, **known(tokens, rows, length), **types}

    def _nothing(self, tokens: Tokens) -> Predictions:
        """Empty arrays for the answers, as if all came from the last exit."""
        return Predictions(
            np.zeros((tokens.unit_count, len(self._network.task.labels)), dtype=np.float32),
            np.full(len(tokens), self._network.exits[-1], dtype=np.int64),
            np.zeros(len(tokens), dtype=np.float32),
            self._network.task.kind,
            tokens.offsets,
        )


def known(tokens: Tokens, rows: Integers, length: int) -> Feeds:
    """The inputs of every graph for a batch padded to `length` tokens: its attention mask and its units."""
    return {MASK: mask(tokens.lengths[rows], length), **tokens.unit_feeds(rows)}


class _Run:
    """The state of a request, or of one thread's part of it."""

    def __init__(
        self, executor: Executor, tokens: Tokens, rows: Integers, limits: tuple[float, ...], found: Predictions
    ) -> None:
        self._executor, self._tokens, self._limits, self._found = executor, tokens, limits, found
        self._entering = list(reversed(executor.batching.cut(tokens.spans, rows)))
        self._pools = [Pool() for _ in limits]  # pool n holds what waits for segment n + 1

    def serve(self) -> None:
        """Serve the deepest pool that holds a batch, else let a batch enter, else empty the shallowest pool."""
        while True:
            full = self._deepest_full()
            if full is not None:
                self._empty(full)
            elif self._entering:
                self._enter(self._entering.pop())
            elif waiting := [place for place, pool in enumerate(self._pools) if pool.parked]:
                self._empty(waiting[0])
            else:
                return

    def _deepest_full(self) -> int | None:
        budget = self._executor.batching.batch_tokens
        return next((place for place in reversed(range(len(self._pools))) if self._pools[place].tokens >= budget), None)

    def _enter(self, rows: Integers) -> None:
        hidden, answers = self._executor.graphs.first(self._executor.feeds(self._tokens, rows))
        self._behind(0, Parked(rows, hidden), answers)

    def _empty(self, place: int) -> None:
        parked = self._pools[place].take()
        rows = np.concatenate([each.rows for each in parked])
        for places in self._executor.batching.cut(self._tokens.spans[rows]):
            self._through(place + 1, pack(parked, places, self._tokens.lengths))

    def _through(self, index: int, batch: Parked) -> None:
        """Run a batch through segment `index` (0-based) and act on its exit's answers."""
        feeds = known(self._tokens, batch.rows, batch.hidden.shape[1])
        hidden, answers = self._executor.graphs.following(index, batch.hidden, feeds)
        self._behind(index, Parked(batch.rows, hidden), answers)

    def _behind(self, index: int, batch: Parked, answers: Floats) -> None:
        """Answer the texts that leave after segment `index`; the others wait, or go on at once."""
        last = index == len(self._limits)
        if not last and self._limits[index] == 0:
            self._through(index + 1, batch)
            return
        units, found = self._tokens.answers_of(batch.rows, answers), self._found
        uncertainty = decide.of(found.kind).uncertainty(units)
        leave: Booleans = np.full(len(units), True) if last else uncertainty < self._limits[index]
        leaving = np.count_nonzero(leave)
        if leaving:
            rows = batch.rows[leave]
            found.probabilities[self._tokens.unit_places(rows)] = units.take(leave).values
            found.entropy[rows] = uncertainty[leave]
            found.exit_layer[rows] = self._executor.graphs.network.exits[index]
        if leaving < len(leave):
            self._go_on(index + 1, batch.only(~leave, self._tokens.lengths) if leaving else batch)

    def _go_on(self, index: int, batch: Parked) -> None:
        planner, length = self._executor.planner, int(self._tokens.lengths[batch.rows].max())
        alone = not self._entering and not any(pool.parked for pool in self._pools[:index])  # no other text will join
        if not alone and (planner is None or planner.waits(index, len(batch.rows), length)):
            self._pools[index - 1].add(batch, self._tokens.lengths)
        else:
            self._through(index, batch)
