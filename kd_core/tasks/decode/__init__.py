"""From hidden states to logits, from several decoders' logits to one answer, and how sure that answer is."""

from kd_core.tasks.decode.classification import GOLD, Branch, Decoder, combine, pool
from kd_core.tasks.decode.distributions import (
    as_logits,
    log_distributions,
    log_of,
    logits_of,
    probabilities,
    uncertainty,
)

__all__ = [
    "GOLD",
    "Branch",
    "Decoder",
    "as_logits",
    "combine",
    "log_distributions",
    "log_of",
    "logits_of",
    "pool",
    "probabilities",
    "uncertainty",
]
