"""Batched augmentation: a batch of images varied by tensor arithmetic, on any device."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from training.recipe import Augment
from training.wear import worn


def augment(
    images: Tensor, indices: Tensor, how: Augment, epoch: int, generator: torch.Generator
) -> Tensor:
    """`images` (float[N, C, H, W], 0..1), varied; `indices` are theirs in the data set.

    The same generator state gives the same result, whatever the device.
    """
    if how.flip == "alternating":
        images = flip(images, alternating(indices, epoch).to(images.device))
    elif how.flip == "random":
        coin = torch.rand(len(images), generator=generator) < 0.5
        images = flip(images, coin.to(images.device))
    if how.rotate or how.scale or how.shear:
        images = warp(images, how, generator)  # moves by whole and part pixels too
    elif how.shift:
        images = shift(images, how.shift, generator)
    if how.jitter:
        images = jitter(images, how.jitter, generator)
    if how.wear:
        images = worn(images, how.wear, generator)
    if how.cutout:
        images = cutout(images, how.cutout, generator)
    return images


def alternating(indices: Tensor, epoch: int) -> Tensor:
    """Which images to flip: a fixed half in even epochs, the other half in odd ones.

    Over two epochs both sides of every image are seen (airbench, section 3.6 of arXiv 2404.00498).
    """
    side = (indices * 2654435761 >> 16) & 1  # Knuth's multiplicative hash: an arbitrary half
    return (side + epoch) % 2 == 1


def flip(images: Tensor, which: Tensor) -> Tensor:
    """Mirror left to right the images where `which` (bool[N]) holds."""
    return torch.where(which.view(-1, 1, 1, 1), images.flip(3), images)


def shift(images: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Move each image by up to `reach` pixels each way; what enters is black or mirrored."""
    count, _, height, width = images.shape
    mode = "constant" if images.shape[1] == 1 else "reflect"  # grey sets have black grounds
    padded = F.pad(images, (reach,) * 4, mode=mode)
    offsets = torch.randint(0, 2 * reach + 1, (2, count), generator=generator)
    moved = torch.empty_like(images)
    for code in range((2 * reach + 1) ** 2):  # one slice per offset is faster than a gather
        down, right = divmod(code, 2 * reach + 1)
        rows = ((offsets[0] == down) & (offsets[1] == right)).nonzero()[:, 0].to(images.device)
        moved[rows] = padded[rows, :, down : down + height, right : right + width]
    return moved


def warp(images: Tensor, how: Augment, generator: torch.Generator) -> Tensor:
    """Rotate, stretch, shear and move each image, at random within `how`; black comes in."""
    count, _, height, _ = images.shape

    def between(reach: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * reach

    angle = between(math.radians(how.rotate))
    slant = between(math.radians(how.shear)).tan()
    wide, high = 1 + between(how.scale), 1 + between(how.scale)
    cosine, sine = angle.cos(), angle.sin()
    matrix = torch.empty(count, 2, 3)
    matrix[:, 0, 0] = cosine / wide
    matrix[:, 0, 1] = (slant * cosine - sine) / high
    matrix[:, 1, 0] = sine / wide
    matrix[:, 1, 1] = (slant * sine + cosine) / high
    matrix[:, 0, 2] = between(2 * how.shift / height)  # grid units: the side is 2 long
    matrix[:, 1, 2] = between(2 * how.shift / height)
    grid = F.affine_grid(matrix.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def jitter(images: Tensor, reach: float, generator: torch.Generator) -> Tensor:
    """Vary each image's contrast (about its mean) and brightness by up to `reach`."""
    factors = 1 + (torch.rand(2, len(images), 1, 1, 1, generator=generator) * 2 - 1) * reach
    contrast, brightness = factors.to(images.device)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    varied: Tensor = (((images - mean) * contrast + mean) * brightness).clamp(0, 1)
    return varied


def cutout(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Blank a square of each image, partly outside at times (DeVries and Taylor, 2017)."""
    count, _, height, width = images.shape
    centres = torch.rand(2, count, 1, generator=generator)
    rows = (torch.arange(height) - centres[0] * height).abs() < side / 2
    columns = (torch.arange(width) - centres[1] * width).abs() < side / 2
    hole = rows[:, None, :, None] & columns[:, None, None, :]
    return images.masked_fill(hole.to(images.device), 0.0)
