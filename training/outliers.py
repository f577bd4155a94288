"""Pictures of nothing a model knows, made up as tensor code, for it to learn to doubt.

Outlier exposure (Hendrycks, Mazeika and Dietterich, 2019) without any other data set: what is held
against the measured strangers (garments, letters, noise) is that none of them was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from training.wear import each

Kind = Callable[[Tensor, torch.Generator], Tensor]


def outliers(images: Tensor, generator: torch.Generator) -> Tensor:
    """As many outliers as there are `images` (float[N, C, H, W], 0..1), of all kinds in turn."""
    parts = images.tensor_split(len(_KINDS))
    made = [kind(part, generator) for kind, part in zip(_KINDS, parts, strict=True) if len(part)]
    return torch.cat(made).clamp(0, 1)


def _texture(images: Tensor, generator: torch.Generator) -> Tensor:
    """Noise, smoothed by an amount of each image's own, stretched to 0..1."""
    field = torch.rand(images.shape, generator=generator).to(images.device)
    depth = each(images, generator, 0, 5)
    for step in range(4):
        field = torch.where(
            depth > step + 1, F.avg_pool2d(field, 3, 1, 1, count_include_pad=False), field
        )
    low, high = field.amin((2, 3), keepdim=True), field.amax((2, 3), keepdim=True)
    return (field - low) / (high - low).clamp(min=1e-3)


def _silhouette(images: Tensor, generator: torch.Generator) -> Tensor:
    """Boxes and ellipses laid over each other about the centre, filled with a faint texture."""
    height, width = images.shape[2:]
    device = images.device
    y = torch.linspace(-1, 1, height, device=device).view(1, 1, -1, 1)
    x = torch.linspace(-1, 1, width, device=device).view(1, 1, 1, -1)
    shape = torch.zeros_like(images[:, :1])
    for piece in range(4):
        angle = each(images, generator, 0, math.pi)
        across = x - each(images, generator, -0.4, 0.4)
        down = y - each(images, generator, -0.4, 0.4)
        along = (across * angle.cos() + down * angle.sin()) / each(images, generator, 0.3, 0.8)
        aside = (down * angle.cos() - across * angle.sin()) / each(images, generator, 0.15, 0.8)
        box = torch.maximum(along.abs(), aside.abs())
        distance = torch.where(each(images, generator, 0, 1) < 0.5, box, along.hypot(aside))
        grey = each(images, generator, 0.3, 1)
        there = each(images, generator, 0, 1) < (1 if piece == 0 else 0.6)
        shape = torch.where(there & (distance < 1), grey, shape)
    part = each(images, generator, 0, 0.6)
    return shape * (1 - part + part * _texture(images, generator))


def _solid(images: Tensor, generator: torch.Generator) -> Tensor:
    """The image swollen until it is a blob, with a texture."""
    blob = F.max_pool2d(images, 9, 1, 4)
    part = each(images, generator, 0, 0.7)
    return blob * (1 - part + part * _texture(images, generator))


def _shuffled(images: Tensor, generator: torch.Generator) -> Tensor:
    """The image's quarters in another order, two of them turned over."""
    height, width = images.shape[2] // 2, images.shape[3] // 2
    first, second = images[:, :, :height], images[:, :, -height:]
    quarters = [
        *(part[:, :, :, :width] for part in (first, second)),
        *(part[:, :, :, -width:] for part in (first, second)),
    ]
    turn = int(torch.randint(1, 4, (), generator=generator))
    a, b, c, d = quarters[turn:] + quarters[:turn]
    rows = [torch.cat([a.flip(2), b], 3), torch.cat([c, d.flip(3)], 3)]
    result = images.clone()
    result[:, :, : 2 * height, : 2 * width] = torch.cat(rows, 2)
    return result


def _noise(images: Tensor, generator: torch.Generator) -> Tensor:
    """White noise of any strength about any grey."""
    grains = torch.randn(images.shape, generator=generator).to(images.device)
    return each(images, generator, 0, 1) + grains * each(images, generator, 0, 0.5)


_KINDS: tuple[Kind, ...] = (_silhouette, _silhouette, _solid, _texture, _shuffled, _noise)
