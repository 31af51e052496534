"""Parameters of what comes after training: calibration of exits, evaluation, measurement, baselines, gate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kd_core.config.base import Count, Fraction, Positive, Section
from kd_core.config.training import Optimisation


class ExportParams(Section):
    """The servable model."""

    max_disagreement: Fraction = 0.01
    """At most this share of predictions with early exits differs from the full model's; 0: the full model."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of that promise. At 0.95, 0.01 takes 299 calibration texts without a disagreement, 0.005 takes 598."""
    quantise: Literal["none", "static"] = "none"
    """int8 for products with weights; static: scales from texts of the valid split."""
    min_agreement: Fraction = 0.98
    """Share of validation texts that int8 must label as fp32 does; below it, fp32 serves."""


class BaselineParams(Section):
    """The student fine-tuned alone on the gold labels, and logistic regressions on its frozen base and on TF-IDF."""

    optimisation: Optimisation


class EvaluateParams(Section):
    """Quality on the test split."""

    thresholds: tuple[Fraction, ...] = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
    """Exit thresholds on the report's curve, beside the chosen one."""
    confidence: Fraction = 0.95
    """Of the intervals."""
    resamples: Count = 10000
    """Bootstrap resamples, by near-duplicate group; fewer make intervals wider, to allow for the luck of the draws."""
    seed: int = 0
    """Of the resamples."""


class MeasureParams(Section):
    """Speed on the machine that runs the stage."""

    batches: tuple[Count, ...] = (1, 32)
    """Texts a request; each size is timed."""
    texts: Count = 256
    """Texts of the calibration split that are timed."""
    repeats: Count = 5
    """Interleaved repeats; the median counts."""
    threads: Count | None = None
    """CPU threads; null: all."""
    round: int = 0
    """Another number takes a doubtful timing again: nothing but the cache depends on it."""


class GateParams(Section):
    """What a model must prove before it becomes champion. The bounds keep the gate a gate, whatever a recipe says.

    Accuracy is meant where rows have one label; for other kinds of tasks their main metric stands in for it.
    """

    min_accuracy: Annotated[float, Field(gt=0, le=1)]
    """Absolute floor, for the first version too."""
    min_share_of_best_teacher: Annotated[float, Field(ge=0.5, le=1)]
    """Accuracy of the student ÷ accuracy of the best teacher, at least."""
    min_macro_f1: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Floor of macro-F1, which a student that knows only the frequent labels breaks; a constant one has less than 0.5
    (one label a row). Only for kinds of tasks that have it."""
    min_speedup: Positive = 1.0
    """Throughput of the student ÷ that of the slowest teacher at the largest measured batch, at least."""
    max_latency_ms: Positive | None = None
    """Median latency at batch 1, at most."""
    margin: Annotated[float, Field(gt=0, le=0.1)] = 0.01
    """Accuracy that a challenger may be worse than the champion (non-inferiority), and than the last version that was
    shown to be better: small losses do not add up."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of the one-sided bounds of the difference; at 0.5 and below the lower bound would lie above the upper one."""
    resamples: Annotated[int, Field(ge=1000)] = 5000
    """Bootstrap resamples; fewer make the bounds wider, to allow for the luck of the draws."""
    max_slowdown: Annotated[float, Field(gt=0, le=5)] = 1.25
    """Challenger's latency ÷ champion's at most, each relative to the reference workload that was timed beside it."""
    seed: int = 0
    """Of the resamples."""


class RegistryParams(Section):
    """Where the model goes."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    """Registered model name in MLflow; `kd-<recipe>` unless the recipe gives another."""
