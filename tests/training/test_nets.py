"""The networks: views that are averaged, and sizes that are published."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from training.nets import build, multiply_accumulates, parameters
from training.recipe import Airbench, Recipe
from training.recipes import RECIPES

ONE = replace(RECIPES["cifar10-best"], net=Airbench(widths=(8, 16)))
SIX = replace(ONE, net=Airbench(widths=(8, 16), views=6))
IMAGE = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_six_views_of_an_image_are_averaged() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        one, six = build(ONE).eval(), build(SIX).eval()
    six.load_state_dict(one.state_dict())
    higher = torch.cat([IMAGE[:, :, 1:], IMAGE[:, :, -2:-1]], dim=2)  # its last row is mirrored
    moved = torch.cat([higher[..., 1:], higher[..., -2:-1]], dim=3)  # up and left
    other = IMAGE.flip(2, 3)  # down and right is up and left of the turned image
    lower = torch.cat([other[:, :, 1:], other[:, :, -2:-1]], dim=2)
    back = torch.cat([lower[..., 1:], lower[..., -2:-1]], dim=3).flip(2, 3)
    with torch.no_grad():
        still, left, right = ((one(x) + one(x.flip(3))) / 2 for x in (IMAGE, moved, back))
        assert torch.allclose(six(IMAGE), still / 2 + left / 4 + right / 4, atol=1e-6)
        assert torch.equal(six.train()(IMAGE), one.train()(IMAGE))  # one view to learn from


def test_six_views_cost_six_times_as_much() -> None:
    assert multiply_accumulates(build(SIX), IMAGE) == 6 * multiply_accumulates(build(ONE), IMAGE)


def test_resnet20_has_the_published_size() -> None:
    # 0.27 M (He et al., 2015, table 6), with 1x1 convolutions where a shortcut changes shape.
    assert parameters(build(RECIPES["cifar10-resnet20"])) == 272_474


@pytest.mark.parametrize(
    ("recipe", "macs", "count"),
    [
        ("mnist-tiny", 5e6, 0.1e6),
        ("mnist-best", 50e6, 2e6),
        ("fashion-tiny", 15e6, 0.3e6),
        ("fashion-best", 90e6, 2e6),
        ("cifar10-tiny", 40e6, 0.7e6),
        ("cifar10-best", 120e6, 2e6),
    ],
)
def test_small_nets_are_as_small_as_they_claim(recipe: str, macs: float, count: float) -> None:
    chosen: Recipe = RECIPES[recipe]
    net = build(chosen)
    image = IMAGE if chosen.dataset == "cifar10" else IMAGE[:, :1, :28, :28]
    assert multiply_accumulates(net, image) <= macs
    assert parameters(net) <= count
