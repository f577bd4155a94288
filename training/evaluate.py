"""How good a model is on images it never saw, measured through the code that serves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts.canonical import place
from artifacts.classify import answer
from artifacts.interval import wilson
from artifacts.model import Model
from training.calibrate import ece, nll
from training.data import Images

BATCH = 256


def measure(model: Model, images: Images) -> dict[str, Any]:
    """The manifest's `test` record for `images`."""
    return summarise(answers(model, images), images.labels, model.manifest.classes)


def answers(model: Model, images: Images) -> NDArray[np.float32]:
    """What the service would answer: float32[N, K] for `images`, placed as it places them."""
    placed = [place(image, model.manifest.input) for image in images.pixels]
    if all(len(each.candidates) == 1 for each in placed):
        return probabilities(model, np.stack([each.candidates[0] for each in placed]))
    return np.stack(
        [
            answer(model.manifest, model.predict(np.stack(each.candidates)), each).probabilities
            for each in placed
        ]
    )


def probabilities(model: Model, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32[N, K], in batches."""
    parts = [
        model.predict(pixels[start : start + BATCH]).probabilities
        for start in range(0, len(pixels), BATCH)
    ]
    return np.concatenate(parts)


def summarise(
    chances: NDArray[np.float32], labels: NDArray[np.uint8], classes: tuple[str, ...]
) -> dict[str, Any]:
    """Accuracy with its interval, calibration, each class, and who is taken for whom."""
    predicted = chances.argmax(axis=1)
    confusion = confusion_of(labels, predicted, len(classes))
    correct = int(np.trace(confusion))
    return {
        "count": len(labels),
        "correct": correct,
        "accuracy": correct / len(labels),
        "interval": [round(bound, 6) for bound in wilson(correct, len(labels))],
        "ece": round(ece(chances, labels), 6),
        "nll": round(nll(chances, labels), 6),
        "classes": [{"label": label, **per_class(confusion, k)} for k, label in enumerate(classes)],
        "confusion": confusion.tolist(),
    }


def confusion_of(
    labels: NDArray[np.uint8], predicted: NDArray[np.integer[Any]], classes: int
) -> NDArray[np.int64]:
    """int64[K, K]: row the true class, column the predicted one."""
    flat = labels.astype(np.int64) * classes + predicted
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def per_class(confusion: NDArray[np.int64], k: int) -> dict[str, Any]:
    """Precision, recall and F1 of class `k`; 0 where there is nothing to divide by."""
    hit, support = int(confusion[k, k]), int(confusion[k].sum())
    claimed = int(confusion[:, k].sum())
    return {
        "precision": round(hit / claimed, 6) if claimed else 0.0,
        "recall": round(hit / support, 6) if support else 0.0,
        "f1": round(2 * hit / (claimed + support), 6) if claimed + support else 0.0,
        "support": support,
    }


def paired(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[int, int, float]:
    """Images only the first model gets right, only the second, and the chance of such a gap.

    McNemar's exact two-sided test: were both equally good, the disputed images would fall to
    either like a fair coin.
    """
    mine, yours = int((first & ~second).sum()), int((second & ~first).sum())
    count = mine + yours
    tail = sum(math.comb(count, k) for k in range(min(mine, yours) + 1)) / 2**count
    return mine, yours, min(1.0, 2 * tail)
