"""How right a version is, from counts of labels: accuracy, its interval, and a table by class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from artifacts.interval import wilson
from service.ledger import Total


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
