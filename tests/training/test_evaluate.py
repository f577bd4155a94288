"""Figures worked out by hand, and what the program makes of them."""

from __future__ import annotations

import numpy as np
import pytest

from artifacts.interval import wilson
from training.evaluate import confusion_of, paired, summarise


def test_the_interval_is_wilsons() -> None:
    low, high = wilson(9_950, 10_000)
    assert (round(low, 4), round(high, 4)) == (0.9934, 0.9962)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == pytest.approx(1)


def test_a_confusion_matrix_has_a_row_for_each_true_class() -> None:
    truth, said = np.array([0, 0, 1, 2], np.uint8), np.array([0, 1, 1, 0])
    assert confusion_of(truth, said, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_a_summary_counts_hits_by_class() -> None:
    chances = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]], np.float32)
    record = summarise(chances, np.array([0, 1, 1, 1], np.uint8), ("yes", "no"))
    assert (record["count"], record["correct"], record["accuracy"]) == (4, 3, 0.75)
    assert record["classes"][0] == {
        "label": "yes",
        "precision": 0.5,
        "recall": 1.0,
        "f1": pytest.approx(2 / 3, abs=1e-6),
        "support": 1,
    }


def test_a_paired_test_looks_only_at_the_disputed_images() -> None:
    first = np.array([True] * 8 + [False] * 1 + [True] * 100)
    second = np.array([False] * 8 + [True] * 1 + [True] * 100)
    mine, yours, chance = paired(first, second)
    assert (mine, yours) == (8, 1)
    assert chance == pytest.approx(20 / 512)
