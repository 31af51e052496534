"""What the heads of a kind offer; docs/tasks.md. B rows, L tokens, H hidden units, U units a row, C outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor

from kd_core.config.student import Pooling
from kd_core.runtime.arrays import Floats, Integers
from kd_core.tasks.heads.probes import Probe

Batch = Mapping[str, Tensor]
"""input_ids, attention_mask and token_type_ids [B, L], unit_mask [B, U], and the kind's features [B, U]."""


class Heads(Protocol):
    """What stands between an encoder and the answers."""

    @property
    def BRANCHES(self) -> bool:  # noqa: N802 - a constant of a module
        """Whether inner layers may answer; without, self_distill passes its input on."""

    @property
    def PROBLEM_TYPE(self) -> str | None:  # noqa: N802
        """What Hugging Face's configs call such logits; None: they have no word for it."""

    def gather(self, hidden: Tensor, batch: Batch, pooling: Pooling) -> Tensor:
        """What decoders and branches see of each unit: [B, L, H] → [B, U, H]."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """[…, C] → […, C] in float32."""

    def logits_of(self, given: Tensor) -> Tensor:
        """Logits [..., C] whose probabilities are given; finite also for 0 and 1."""

    def probe(self, features: Floats, targets: Integers, inverse: float) -> Probe:
        """First weights of new outputs: regressions of gold on features [ΣU, H]; see heads.probes."""

    @property
    def AUTO_CLASS(self) -> Any:  # noqa: N802
        """The class of transformers that loads a teacher."""

    def pipeline(self, model: Any, tokenizer: Any, max_length: int, device: Any) -> Callable[[list[Any]], Any] | None:
        """A teacher as `transformers.pipeline` runs it, on texts or, for pairs, dicts of them; None: there is none."""

    def from_transformers(self, logits: Tensor, batch: Batch) -> Tensor:
        """A teacher's logits, as transformers' model of this kind gives them → [B, U, C]."""

    def as_transformers(self, logits: Tensor) -> Tensor:
        """[B, U, C] → as transformers' model of this kind gives them."""
