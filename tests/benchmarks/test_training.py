"""What the steps of training buy: the notebook's images are the same ones, the sums are right."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.training import NOTEBOOK, Pictures, Row, measure, plain, record, table, times
from tests.training.small import samples


def test_a_notebooks_image_is_the_original_moved_or_mirrored() -> None:
    images = samples("cifar10")
    original = torch.from_numpy(images.pixels[0].copy()).permute(2, 0, 1).float() / 255
    still, label = Pictures(images, reach=0)[0]
    assert label == images.labels[0]
    assert torch.equal(still, original) or torch.equal(still, original.flip(2))
    moved, _ = Pictures(images, reach=2)[0]
    assert moved.shape == original.shape
    assert np.isin(moved.numpy(), original.numpy()).all()


def test_a_plain_net_measures_nothing_and_learns_everything() -> None:
    pixels = torch.from_numpy(samples("cifar10").pixels.copy()).permute(0, 3, 1, 2)
    first, second = (plain(NOTEBOOK, images).net for images in (pixels, pixels[:50]))
    assert all(parameter.requires_grad for parameter in first.parameters())
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_step_ends_when_the_accuracy_is_reached() -> None:
    row = measure("ours", iter([(2.0, 0.5), (3.0, 0.9), (4.0, 0.95)]), to=0.8, limit_s=60)
    assert (row.reached(0.8), row.seconds, row.epoch_s) == (2, [2.0, 5.0], 2.5)


def test_how_many_times_faster_is_a_lower_bound_when_the_first_ran_into_the_limit() -> None:
    slow = measure("notebook", iter([(30.0, 0.3), (30.0, 0.4), (30.0, 0.5)]), to=0.8, limit_s=60)
    assert slow.seconds == [30.0, 60.0]
    found = record([slow, Row("ours", [5.0, 10.0], [0.7, 0.8])], 0.8, 60, 1000)
    assert times(found) == ["", "over 6.0"]
    assert "| notebook | 30.0 | - | not reached |  | 40.0 |" in table(found)
    assert "| ours | 5.0 | 2 | 10 | over 6.0 | 80.0 |" in table(found)
