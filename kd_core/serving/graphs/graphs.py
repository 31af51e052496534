"""The graphs of a model's folder as functions on arrays; each is loaded at its first call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_core.runtime.cpu import open_session
from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.folder.network import MASK, PLACES, Network, hidden_name, probabilities_name
from kd_core.serving.graphs.tokens import places

Floats = npt.NDArray[np.float32]
Feeds = dict[str, npt.NDArray[Any]]

_NOTHING: Floats = np.zeros((0, 0, 0), dtype=np.float32)


class Graphs:
    """Segments and whole graph of one folder. One thread computes a call; several threads may call at once."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.folder, self.network = folder, network
        self._sessions: dict[str, tuple[Any, list[str]]] = {}
        self._lock = Lock()

    def first(self, tokens: Feeds) -> tuple[Floats, Floats]:
        """Hidden states [B, L, H] after the first segment and its exit's probabilities [B · U, C], from token ids."""
        return self._run(0, tokens)

    def following(self, index: int, hidden: Floats, known: Feeds) -> tuple[Floats, Floats]:
        """The same for segment `index` (0-based), from the states before it; the last segment gives no hidden states.

        :param known: attention mask and units of the batch
        """
        return self._run(index, {hidden_name(self.network.segments[index].first - 1): hidden, **known})

    def whole(self, tokens: Feeds) -> Floats:
        """The full model's probabilities [B · U, C]."""
        session, takes = self._session(self.network.whole.file)
        found: Floats = session.run([probabilities_name(self.network.exits[-1])], fed(takes, tokens))[0]
        return found

    def _run(self, index: int, feeds: Feeds) -> tuple[Floats, Floats]:
        segment = self.network.segments[index]
        session, takes = self._session(segment.file)
        names = [probabilities_name(segment.last)]
        if segment.last != self.network.exits[-1]:
            names.append(hidden_name(segment.last))
        probabilities, *hidden = session.run(names, fed(takes, feeds))
        return (hidden[0] if hidden else _NOTHING), probabilities

    def _session(self, file: str) -> tuple[Any, list[str]]:
        """The session and the inputs that its graph takes; optimisation may have removed an input."""
        with self._lock:
            if file not in self._sessions:
                session = open_session(self.folder / file)
                self._sessions[file] = session, [each.name for each in session.get_inputs()]
            return self._sessions[file]


def fed(names: Sequence[str], feeds: Feeds) -> Feeds:
    """The inputs that a graph takes, by name, chosen from a batch's tokens or hidden states, mask and units.

    Raises InvalidDataError for an input that this version of the kind of task does not know.
    """
    if PLACES in names:
        feeds = feeds | places(feeds[MASK])
    try:
        return {name: feeds[name] for name in names}
    except KeyError as unknown:
        raise InvalidDataError(f"the graphs take {unknown}, which is not known of a text; export again") from None
