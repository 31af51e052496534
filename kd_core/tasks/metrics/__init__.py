"""How good predictions are, in plain numpy arrays."""

from kd_core.tasks.metrics.classification import (
    accuracy,
    expected_calibration_error,
    log_loss,
    macro_f1,
    quality,
    reliability_bins,
)

__all__ = ["accuracy", "expected_calibration_error", "log_loss", "macro_f1", "quality", "reliability_bins"]
