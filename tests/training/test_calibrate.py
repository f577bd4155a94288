"""Calibration finds what was planted, and its promises hold on fresh images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.calibrate import calibrate, conformal_quantiles, ece, fit_temperature, softmax


def answers(
    count: int, overconfidence: float, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Logits too large by a known factor, and labels drawn from the true probabilities."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, 10))
    chances = softmax(logits).cumsum(axis=1)
    labels = (chances < rng.random((count, 1))).sum(axis=1).clip(0, 9)
    return (logits * overconfidence).astype(np.float32), labels.astype(np.uint8)


def test_the_temperature_undoes_overconfidence() -> None:
    assert abs(fit_temperature(*answers(20_000, 3.0)) - 3.0) < 0.1


def test_a_calibrated_model_has_a_small_calibration_error() -> None:
    logits, labels = answers(20_000, 3.0)
    assert ece(softmax(logits), labels) > 0.1
    assert ece(softmax(logits / 3), labels) < 0.02


def test_thresholds_have_the_rates_they_state() -> None:
    part = answers(5_000, 1.0)
    found = calibrate(
        calibration=answers(5_000, 1.0, seed=1),
        validation=part,
        pixels=np.zeros((5_000, 28, 28), np.uint8),
        uncertain_rate=0.05,
        alien_rate=0.01,
    )
    assert abs(found.uncertain.rate - 0.05) < 0.001
    assert found.alien is not None
    assert abs(found.alien.rate - 0.01) < 0.001
    assert abs(sum(found.references["classes"]) - 1) < 1e-6


def test_conformal_sets_cover_fresh_images_as_promised() -> None:
    logits, labels = answers(5_000, 1.0)
    quantiles = conformal_quantiles(softmax(logits), labels)
    fresh, truth = answers(20_000, 1.0, seed=9)
    scores = 1 - softmax(fresh)[np.arange(len(truth)), truth]
    for level, quantile in quantiles.items():
        assert abs((scores <= quantile).mean() - float(level)) < 0.01
