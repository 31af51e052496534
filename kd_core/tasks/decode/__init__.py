"""From hidden states to logits, from several decoders' logits to one answer, and how sure that answer is."""

from kd_core.tasks.decode.classification import GOLD, Branch, Decoder, combine, pool, uncertainty

__all__ = ["GOLD", "Branch", "Decoder", "combine", "pool", "uncertainty"]
