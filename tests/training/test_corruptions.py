"""Corruptions are pure, and each does to an image what its name says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.corruptions import GARMENTS, MNIST_C_STYLE, PICTURES, scaled, shifted, stroke
from training.robustness import auroc
from training.wear import worn

DATA = Path(__file__).parents[1] / "data" / "mnist" / "mnist.npz"
ALL = MNIST_C_STYLE | PICTURES | {f"garment, {name}": each for name, each in GARMENTS.items()}


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    with np.load(DATA) as stored:
        first: NDArray[np.uint8] = stored["images"][0]
    return first


def test_there_are_fifteen_kinds_as_in_mnist_c() -> None:
    assert len(MNIST_C_STYLE) == 15


@pytest.mark.parametrize("name", ALL)
def test_a_corruption_is_decided_by_image_and_seed(name: str, image: NDArray[np.uint8]) -> None:
    before = image.copy()
    once, again = ALL[name](image, 7), ALL[name](image, 7)
    assert np.array_equal(once, again)
    assert np.array_equal(image, before)
    assert once.dtype == np.uint8
    assert once.shape[:2] != image.shape or not np.array_equal(once, image)


def test_no_ink_is_lost_by_a_shift(image: NDArray[np.uint8]) -> None:
    for seed in range(8):
        assert shifted(image, seed).sum() == image.sum()


def test_twice_the_size_is_four_times_the_ink(image: NDArray[np.uint8]) -> None:
    assert int(scaled(image, 0, 2.0).sum()) == pytest.approx(4 * int(image.sum()), rel=0.05)


def test_thick_strokes_have_more_ink_and_thin_ones_less(image: NDArray[np.uint8]) -> None:
    assert stroke(image, 0, -0.5).sum() < image.sum() < stroke(image, 0, 0.75).sum()


def test_the_energies_of_strangers_stand_out_or_do_not() -> None:
    low, high = np.arange(100.0), np.arange(100.0) + 100
    assert auroc(low, high) == 1
    assert auroc(high, low) == 0
    assert auroc(low, low) == pytest.approx(0.5)


def test_worn_images_stay_images_and_some_are_untouched(image: NDArray[np.uint8]) -> None:
    batch = torch.tensor(image / 255, dtype=torch.float32).expand(400, 1, 28, 28)
    result = worn(batch, 0.5, torch.Generator().manual_seed(1))
    assert result.shape == batch.shape
    assert 0 <= float(result.min()) <= float(result.max()) <= 1
    same = (result == batch).flatten(1).all(1).float().mean()
    assert 0.4 < float(same) < 0.6
