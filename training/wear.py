"""Worn images: strokes thick, thin or hollow, blur, noise, specks and lines, as tensor code."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Way = Callable[[Tensor, torch.Generator], Tensor]


def worn(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """`images` (float[N, C, H, W], 0..1), about `share` of them worn, each in one way."""
    draw = torch.rand(len(images), generator=generator)
    kinds = (draw / share * len(_WAYS)).long()
    result = images.clone()
    for kind, way in enumerate(_WAYS):
        rows = (kinds == kind).nonzero()[:, 0].to(images.device)
        if len(rows):
            result[rows] = way(images[rows], generator).clamp(0, 1)
    return result


def each(images: Tensor, generator: torch.Generator, low: float, high: float) -> Tensor:
    """A number for each image, between `low` and `high`: float[N, 1, 1, 1]."""
    drawn = torch.rand(len(images), 1, 1, 1, generator=generator)
    return (low + (high - low) * drawn).to(images.device)


def _wider(images: Tensor) -> Tensor:
    return F.max_pool2d(images, 3, 1, 1)


def _narrower(images: Tensor) -> Tensor:
    return -F.max_pool2d(-images, 3, 1, 1)


def _thick(images: Tensor, generator: torch.Generator) -> Tensor:
    part = each(images, generator, 0.3, 1.0)
    return part * _wider(images) + (1 - part) * images


def _thin(images: Tensor, generator: torch.Generator) -> Tensor:
    part = each(images, generator, 0.2, 0.8)
    thin = part * _narrower(images) + (1 - part) * images
    return thin / thin.amax((1, 2, 3), keepdim=True).clamp(min=0.2)


def _hollow(images: Tensor, generator: torch.Generator) -> Tensor:
    edges = (
        _wider(images) - images
        if torch.rand((), generator=generator) < 0.5
        else (images - _narrower(images))
    )
    part = each(images, generator, 1.0, 2.0)
    return edges * part


def _outlined(images: Tensor, generator: torch.Generator) -> Tensor:
    """Where the slope is near the steepest about: lines one or two pixels wide, black or white."""
    smooth = F.avg_pool2d(images, 3, 1, 1)
    padded = F.pad(smooth, (1, 1, 1, 1))
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    slope = across.hypot(down)
    ridge = slope >= each(images, generator, 0.75, 0.95) * _wider(slope)
    return (ridge & (slope > each(images, generator, 0.1, 0.4))).float()


def _harsh(images: Tensor, generator: torch.Generator) -> Tensor:
    """Contrast so high that strokes are black or white, as in scans and screenshots."""
    level = each(images, generator, 0.15, 0.6)
    return (images - level) * each(images, generator, 3, 30) + 0.5


def _blurred(images: Tensor, generator: torch.Generator) -> Tensor:
    part = each(images, generator, 0.3, 1.0)
    twice = F.avg_pool2d(F.avg_pool2d(images, 3, 1, 1), 3, 1, 1)
    return (part * twice + (1 - part) * images) * each(images, generator, 1.0, 1.6)


def _noisy(images: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    return images + noise * each(images, generator, 0.05, 0.3)


def _peppered(images: Tensor, generator: torch.Generator) -> Tensor:
    chance = torch.rand(images.shape, generator=generator).to(images.device)
    share = each(images, generator, 0.02, 0.2)
    return torch.where(chance < share / 2, 0.0, torch.where(chance < share, 1.0, images))


def _specked(images: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.rand(images.shape, generator=generator).to(images.device)
    smooth = F.avg_pool2d(F.avg_pool2d(noise, 3, 1, 1), 3, 1, 1)
    level = smooth.flatten(1).quantile(0.9, dim=1).view(-1, 1, 1, 1)
    return torch.maximum(images, ((smooth - level) * 20).clamp(0, 1))


def _crossed(images: Tensor, generator: torch.Generator) -> Tensor:
    """A line drawn across, straight, waved or dotted, one or two pixels wide."""
    height, width = images.shape[2:]
    device = images.device
    y = torch.arange(height, device=device).view(1, 1, -1, 1) - (height - 1) / 2
    x = torch.arange(width, device=device).view(1, 1, 1, -1) - (width - 1) / 2
    angle = each(images, generator, 0, math.pi)
    along = x * angle.cos() + y * angle.sin()
    off = y * angle.cos() - x * angle.sin() - each(images, generator, -9, 9)
    wave = each(images, generator, -2.5, 2.5).clamp(min=0)
    pitch = each(images, generator, 4, 9)
    off = off - wave * (2 * ((along / pitch) % 1) - 1).abs() * 2
    line = (each(images, generator, 0.9, 1.5) - off.abs()).clamp(0, 1)
    dotted = each(images, generator, 0, 1) < 0.4
    line = torch.where(dotted & ((along / 3.0) % 1 > 0.5), 0.0, line)
    return torch.maximum(images, line)


_WAYS: tuple[Way, ...] = (
    _thick,
    _thin,
    _hollow,
    _outlined,
    _harsh,
    _blurred,
    _noisy,
    _peppered,
    _specked,
    _crossed,
)
