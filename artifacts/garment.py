"""A picture of a garment becomes 28x28 pixels as Fashion-MNIST was made."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from artifacts.images import BadImage

SIDE = 28


def place(grey: NDArray[np.uint8]) -> tuple[tuple[NDArray[np.uint8], ...], dict[str, Any]]:
    """The garment in uint8[H, W] as uint8[28, 28] candidates, and what was done."""
    rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    inverted = float(np.median(rim)) > 200
    figure = 255 - grey if inverted else grey
    report = {"polarity": "inverted" if inverted else "kept"}
    if grey.shape == (SIDE, SIDE):
        return (figure,), report | {"box": [0, 0, SIDE, SIDE], "own_form": not inverted}
    seen = figure > 24
    if not seen.any():
        raise BadImage("no garment found: the image is blank")
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    part = Image.fromarray(figure[top:bottom, left:right])
    scale = SIDE / max(part.size)
    size = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
    small = part.resize(size, Image.Resampling.BOX)
    canvas = Image.new("L", (SIDE, SIDE))
    canvas.paste(small, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return (np.asarray(canvas),), report | {"box": [left, top, right, bottom]}
