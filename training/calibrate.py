"""What makes outputs usable: temperature, thresholds, conformal quantiles, references."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts.manifest import Threshold
from artifacts.reference import CONFIDENCE_EDGES, INK_EDGES, ink, shares

LEVELS = (0.90, 0.95, 0.99)  # of conformal sets


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What the manifest says beside the network; the thresholds are for calibrated outputs."""

    temperature: float
    uncertain: Threshold
    alien: Threshold | None
    quantiles: dict[str, float]
    references: dict[str, Any]


def calibrate(
    *,
    calibration: tuple[NDArray[np.float32], NDArray[np.uint8]],
    validation: tuple[NDArray[np.float32], NDArray[np.uint8]],
    pixels: NDArray[np.uint8],
    uncertain_rate: float,
    alien_rate: float,
) -> Calibration:
    """From logits float32[N, K] and labels of both parts; `pixels` are validation's images.

    Temperature and quantiles come from the calibration part, thresholds and references from the
    validation part, so that a threshold's rate is measured on images that fitted nothing.
    """
    temperature = fit_temperature(*calibration)
    found = calibrate_probabilities(
        calibration=(softmax(calibration[0] / temperature), calibration[1]),
        validation=softmax(validation[0] / temperature),
        pixels=pixels,
        uncertain_rate=uncertain_rate,
    )
    alien = upper_threshold(energy(validation[0], temperature), alien_rate)
    return replace(found, temperature=temperature, alien=alien)


def calibrate_probabilities(
    *,
    calibration: tuple[NDArray[np.floating[Any]], NDArray[np.uint8]],
    validation: NDArray[np.floating[Any]],
    pixels: NDArray[np.uint8],
    uncertain_rate: float,
) -> Calibration:
    """The same from probabilities, for models that have no logits and hence no energy."""
    return Calibration(
        temperature=1.0,
        uncertain=lower_threshold(validation.max(axis=1), uncertain_rate),
        alien=None,
        quantiles=conformal_quantiles(*calibration),
        references=references(validation, pixels),
    )


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.uint8]) -> float:
    """The T that minimises the negative log-likelihood of softmax(logits / T) (Guo et al., 2017).

    Golden-section search over log T in 0.05..20: the loss has a single minimum there.
    """
    low, high = math.log(0.05), math.log(20.0)
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if nll(softmax(logits / math.exp(left)), labels) < nll(
            softmax(logits / math.exp(right)), labels
        ):
            high = right
        else:
            low = left
    return round(math.exp((low + high) / 2), 4)


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Rows that sum to 1, in double precision."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    result: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return result


def energy(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """-T logsumexp(logits / T): low for what resembles the training images (Liu et al., 2020)."""
    scaled = logits.astype(np.float64) / temperature
    top = scaled.max(axis=1)
    result: NDArray[np.float64] = -temperature * (
        top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
    )
    return result


def lower_threshold(values: NDArray[np.floating[Any]], rate: float) -> Threshold:
    """The value that a share `rate` lies below, with the share that really does."""
    value = float(np.quantile(values, rate))
    return Threshold(value=value, rate=float((values < value).mean()))


def upper_threshold(values: NDArray[np.floating[Any]], rate: float) -> Threshold:
    """The value that a share `rate` lies above, with the share that really does."""
    value = float(np.quantile(values, 1 - rate))
    return Threshold(value=value, rate=float((values > value).mean()))


def conformal_quantiles(
    chances: NDArray[np.floating[Any]], labels: NDArray[np.uint8]
) -> dict[str, float]:
    """For each level, the q with 1 - p(true class) <= q in that share of new images.

    The rank ceil((n + 1) level) makes the guarantee hold for finitely many images.
    """
    scores = np.sort(1.0 - chances[np.arange(len(labels)), labels])
    quantiles = {}
    for level in LEVELS:
        rank = math.ceil((len(scores) + 1) * level)
        quantiles[f"{level:.2f}"] = float(scores[rank - 1]) if rank <= len(scores) else 1.0
    return quantiles


def references(chances: NDArray[np.floating[Any]], pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """The distributions drift is measured against: predicted classes, confidence, ink."""
    classes = np.bincount(chances.argmax(axis=1), minlength=chances.shape[1]) / len(chances)
    return {
        "classes": classes.tolist(),
        "confidence": {
            "edges": list(CONFIDENCE_EDGES),
            "shares": shares(chances.max(axis=1), CONFIDENCE_EDGES),
        },
        "ink": {"edges": list(INK_EDGES), "shares": shares(ink(pixels), INK_EDGES)},
    }


def nll(chances: NDArray[np.floating[Any]], labels: NDArray[np.uint8]) -> float:
    """Mean negative log-likelihood of the true classes, in nats."""
    true = chances[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(true, 1e-12)).mean())


def ece(chances: NDArray[np.floating[Any]], labels: NDArray[np.uint8], bins: int = 15) -> float:
    """Expected calibration error: |confidence - accuracy| over equally wide bins, weighted."""
    confidence = chances.max(axis=1)
    right = chances.argmax(axis=1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[index == k].mean() - right[index == k].mean()) * (index == k).mean()
        for k in range(bins)
        if (index == k).any()
    ]
    return float(sum(gaps))
