"""How far predictions are from gold labels (hard) and from a teacher's distribution (soft)."""

from kd_core.tasks.loss.classification import average, hard_loss, soft_loss

__all__ = ["average", "hard_loss", "soft_loss"]
