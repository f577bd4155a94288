"""Augmentation varies images as it says, and the same seed varies them alike."""

from __future__ import annotations

import torch

from training.augment import alternating, augment, cutout, jitter, shift, warp
from training.recipe import Augment


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def dots(count: int) -> torch.Tensor:
    """Images with one white pixel in the middle."""
    images = torch.zeros(count, 1, 28, 28)
    images[:, :, 14, 14] = 1
    return images


def test_a_shift_moves_the_pixel_and_loses_nothing() -> None:
    moved = shift(dots(200), 2, seeded())
    assert torch.equal(moved.sum(dim=(1, 2, 3)), torch.ones(200))
    rows = moved.amax(dim=(1, 3)).argmax(1)
    assert set(rows.tolist()) == {12, 13, 14, 15, 16}


def test_a_warp_by_nothing_changes_nothing() -> None:
    images = torch.rand(5, 1, 28, 28, generator=seeded())
    assert torch.allclose(warp(images, Augment(), seeded()), images, atol=1e-5)


def test_every_image_shows_both_sides_in_two_epochs() -> None:
    indices = torch.arange(1000)
    first, second = alternating(indices, 0), alternating(indices, 1)
    assert torch.equal(first, ~second)
    assert 400 < int(first.sum()) < 600


def test_cutout_blanks_a_square_at_most() -> None:
    holes = (cutout(torch.ones(50, 3, 32, 32), 8, seeded()) == 0).sum(dim=(1, 2, 3))
    assert 0 < int(holes.min()) <= int(holes.max()) <= 3 * 81


def test_jitter_stays_within_the_range_of_pixels() -> None:
    images = jitter(torch.rand(20, 1, 28, 28, generator=seeded()), 0.5, seeded())
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1


def test_the_same_seed_gives_the_same_batch() -> None:
    how = Augment(flip="random", shift=2, rotate=10, scale=0.1, cutout=4, jitter=0.2)
    images = torch.rand(8, 1, 28, 28, generator=seeded())
    rows = torch.arange(8)
    first, second = (augment(images, rows, how, 0, seeded()) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, images)
