"""A picture of a handwritten digit becomes 28x28 pixels as MNIST was made."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from artifacts.images import BadImage

SIDE = 28
BOX = 20  # MNIST scaled each digit's longer side to this
CENTRE = 14  # and put its centre of mass here, to the nearest pixel: 13.48 to 14.50 in all 70,000
_SLACK = 0.55  # pixels the centre of mass of an image in own form may be off CENTRE
_DARK_RIM = 1600  # sum over the outermost 108 pixels; at most 932 in MNIST
_ONES = np.ones(SIDE, np.float32)
_INDEX = np.arange(SIDE, dtype=np.float32)


def place(grey: NDArray[np.uint8]) -> tuple[tuple[NDArray[np.uint8], ...], dict[str, Any]]:
    """The digit in uint8[H, W] as uint8[28, 28] candidates, and what was done."""
    if grey.shape == (SIDE, SIDE) and own_form(grey):
        return (grey,), {"polarity": "kept", "box": [0, 0, SIDE, SIDE], "own_form": True}
    values = grey.astype(np.float32)
    rim = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    ground = float(np.median(rim))
    inverted = ground > 127
    ink = ground - values if inverted else values - ground
    peak = float(ink.max())
    if peak < 16:
        raise BadImage("no digit found: the image is blank")
    ink = np.clip(ink / peak, 0, 1)
    strong = ink > 0.3
    rows, columns = np.flatnonzero(strong.any(1)), np.flatnonzero(strong.any(0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    report = {"polarity": "inverted" if inverted else "kept", "box": [left, top, right, bottom]}
    return (centred(ink[top:bottom, left:right]),), report


def own_form(grey: NDArray[np.uint8]) -> bool:
    """Whether uint8[28, 28] already is as MNIST's own images are: all 70,000 of them pass.

    Dark rim, full contrast, a bounding box of 19 or 20, and the centre of mass at the centre.
    """
    values = grey.astype(np.float32)
    columns, rows = _ONES @ values, values @ _ONES
    mass = float(columns @ _ONES)
    if mass == 0 or columns[0] + columns[-1] + rows[0] + rows[-1] > _DARK_RIM:
        return False
    if abs(float(columns @ _INDEX) / mass - CENTRE) > _SLACK:
        return False
    if abs(float(rows @ _INDEX) / mass - CENTRE) > _SLACK:
        return False
    wide, high = np.flatnonzero(columns), np.flatnonzero(rows)
    longest = max(wide[-1] - wide[0], high[-1] - high[0]) + 1
    return bool(BOX - 1 <= longest <= BOX) and int(grey.max()) >= 250


def centred(ink: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Cropped ink (0..1) scaled to the 20-pixel box, its centre of mass at the centre of 28x28."""
    height, width = ink.shape
    scale = BOX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BOX))
    small = np.clip(small / small.max(), 0, 1)
    mass = float(small.sum())
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    starts = []
    for axis, length in ((0, size[1]), (1, size[0])):
        centre = float(small.sum(1 - axis) @ np.arange(length)) / mass
        starts.append(min(max(0, round(CENTRE - centre)), SIDE - length))
    rows = slice(starts[0], starts[0] + size[1])
    columns = slice(starts[1], starts[1] + size[0])
    canvas[rows, columns] = np.rint(small * 255)
    return canvas
