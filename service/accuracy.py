"""How right a version is, from counts of labels: accuracy, its interval, and a table by class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import sqrt
from typing import Any

from service.ledger import Total

_Z = 1.959964  # two-sided 95 %


def wilson(correct: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, 0..1, that was `correct` of `count` (Wilson 1927).

    With nothing counted it is the whole of 0..1.
    """
    if count == 0:
        return 0.0, 1.0
    share = correct / count
    middle = share + _Z**2 / (2 * count)
    half = _Z * sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    scale = 1 + _Z**2 / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def summarise(counts: Iterable[Total], classes: Sequence[str]) -> dict[str, Any]:
    """JSON-able figures of one source's labels: overall, by class, and the confusion matrix.

    Shares are None where nothing was counted; `confusion` is [true][predicted].
    """
    size = len(classes)
    confusion = [[0] * size for _ in range(size)]
    for total in counts:
        confusion[total.true_class][total.predicted_class] += total.count
    correct = sum(confusion[i][i] for i in range(size))
    labelled = sum(map(sum, confusion))
    return {
        "labelled": labelled,
        "correct": correct,
        "accuracy": _share(correct, labelled),
        "interval": list(wilson(correct, labelled)) if labelled else None,
        "classes": [
            {
                "label": label,
                "labelled": sum(confusion[i]),
                "correct": confusion[i][i],
                "recall": _share(confusion[i][i], sum(confusion[i])),
                "predicted": sum(row[i] for row in confusion),
                "precision": _share(confusion[i][i], sum(row[i] for row in confusion)),
            }
            for i, label in enumerate(classes)
        ],
        "confusion": confusion,
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
