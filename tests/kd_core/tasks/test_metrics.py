"""Metrics against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kd_core.tasks.metrics.classification import bins_of_confidence, expected_calibration_error, quality
from kd_core.tasks.units import Units

PROBABILITIES = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7]], dtype=np.float32)
TARGETS = np.array([0, 1, 1, 2])


def test_quality_by_hand() -> None:
    result = quality(Units.one_a_row(PROBABILITIES), Units.one_a_row(TARGETS))
    assert result["accuracy"] == 0.75
    assert result["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert result["log_loss"] == pytest.approx(-sum(map(math.log, (0.9, 0.7, 0.3, 0.7))) / 4, rel=1e-5)
    assert result["ece"] == pytest.approx((abs(0.9 - 1) + abs(1.4 - 2) + abs(0.6 - 0)) / 4, abs=1e-6)


def test_log_loss_does_not_need_every_class_among_the_targets() -> None:
    alone = quality(Units.one_a_row(PROBABILITIES[:1]), Units.one_a_row(TARGETS[:1]))
    assert alone["log_loss"] == pytest.approx(-math.log(0.9), rel=1e-5)


def test_calibrated_answers_have_no_calibration_error() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.5, 1.0, 40_000)
    targets = (generator.uniform(size=confidence.size) > confidence).astype(int)
    probabilities = np.stack([confidence, 1 - confidence], 1)
    assert expected_calibration_error(probabilities, targets) < 0.01
    assert expected_calibration_error(probabilities, 1 - targets) > 0.4


def test_each_row_is_in_one_bin() -> None:
    bins = bins_of_confidence(np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]), np.array([0, 0, 0]))
    assert bins["rows"].sum() == 3
    assert bins["rows"][-1] == 2
    assert bins["accuracy"][-1] == 0.5
