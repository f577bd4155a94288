"""A picture of a garment becomes 28x28 pixels as Fashion-MNIST was made."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from artifacts import strokes
from artifacts.images import BadImage

SIDE = 28
_WORKING = 256  # pixels; the longer side that a garment is looked for at
_FAINT = 12.0  # grey levels of contrast; less is blank
# A 28x28 picture is in own form unless its ground is unmistakably light: more of its rim white
# than black, or most of it light and hardly any dark. Garments touch the rim, yet no image of
# Fashion-MNIST's 60,000 for training is so.
_WHITE, _LIGHT, _DARK, _BLACK = 235, 160, 64, 20
_WHITE_SHARE, _LIGHT_SHARE, _DARK_SHARE = 0.2, 0.4, 0.1
# Fashion-MNIST was sharpened with a Gaussian of radius 1 once it was small (Xiao et al., 2017); the
# strength is the one that the model of garments reads validation images best at.
_SHARPENED = ImageFilter.UnsharpMask(radius=1, percent=70, threshold=0)
_DOUBTFUL = (96, 160)  # grounds between these greys are as likely to be either
_ROW = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
_RIM = np.concatenate([_ROW[0], _ROW[-1], _ROW[1:-1, 0], _ROW[1:-1, -1]])


def place(grey: NDArray[np.uint8]) -> tuple[tuple[NDArray[np.uint8], ...], dict[str, Any]]:
    """The garment in uint8[H, W] as uint8[28, 28] candidates, light on dark, and what was done."""
    height, width = grey.shape
    if min(height, width) < 5:
        raise BadImage(f"no garment found: the image is only {width} x {height} pixels")
    if grey.shape == (SIDE, SIDE):
        own: dict[str, Any] = {"box": [0, 0, SIDE, SIDE], "own_form": True}
        rim = grey.ravel()[_RIM]
        if _is_light(rim):
            ground = int(np.median(rim[rim > _LIGHT]))
            return (_raised(grey, ground, light=True),), {"polarity": "inverted"} | own
        return (grey,), {"polarity": "kept"} | own
    factor = -(-max(height, width) // _WORKING)
    small = np.asarray(Image.fromarray(grey).reduce(factor)) if factor > 1 else grey
    ground = _ground(small)
    light = ground > (_DOUBTFUL[0] + _DOUBTFUL[1]) // 2
    ways = [light] if not _DOUBTFUL[0] <= ground <= _DOUBTFUL[1] else [light, not light]
    candidates, boxes = [], []
    for way in ways:
        figure = _raised(small, ground, way)
        box = _box(figure)
        if box is not None:
            candidates.append(_extended(figure[box[1] : box[3], box[0] : box[2]]))
            boxes.append([edge * factor for edge in box])
    if not candidates:
        raise BadImage("no garment found: the image is blank")
    polarity = "inverted" if light else "kept"
    return tuple(candidates), {"polarity": polarity, "ground": ground, "box": boxes[0]}


def _is_light(rim: NDArray[np.uint8]) -> bool:
    """Whether a rim is unmistakably that of a light ground."""
    white, light = np.mean(rim > _WHITE), np.mean(rim > _LIGHT)
    dark, black = np.mean(rim < _DARK), np.mean(rim < _BLACK)
    mostly = light > _LIGHT_SHARE and dark < _DARK_SHARE
    return bool(mostly or (white > _WHITE_SHARE and white > black))


def _ground(grey: NDArray[np.uint8]) -> int:
    """The ground's grey: what most of the rim is, wherever the garment touches it."""
    thick = max(1, min(grey.shape) // 40)
    sides = (grey[:thick], grey[-thick:], grey[:, :thick], grey[:, -thick:])
    counts = np.bincount(np.concatenate([side.ravel() for side in sides]), minlength=256)
    middle = int(np.argmax(np.convolve(counts, np.ones(17), "same")))
    first = max(0, middle - 8)
    return first + int(np.argmax(counts[first : middle + 9]))


def _raised(grey: NDArray[np.uint8], ground: int, light: bool) -> NDArray[np.uint8]:
    """`grey` with its ground at 0 and what stands off it above, never binarised."""
    values = grey.astype(np.float32)
    off, room = (ground - values, ground) if light else (values - ground, 255 - ground)
    raised: NDArray[np.uint8] = np.rint(np.clip(off * (255 / max(1, room)), 0, 255)).astype(
        np.uint8
    )
    return raised


def _box(figure: NDArray[np.uint8]) -> strokes.Box | None:
    """The box around all that is more than specks, or None where nothing stands off the ground."""
    ink = figure.astype(np.float32)
    peak = float(np.sort(ink, None)[-max(1, ink.size // 500)])
    if peak < _FAINT:
        return None
    rim = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
    noise = float(np.median(rim[rim < 0.2 * peak])) if (rim < 0.2 * peak).any() else 0.0
    found = strokes.pieces(ink > min(max(2.0, 8 * noise), 0.2 * peak), ink > 0.3 * peak, ink)
    large = [
        box
        for box, ink_of in zip(found.boxes, found.ink, strict=False)
        if ink_of >= 0.03 * found.ink[0]
    ]
    return strokes.union(large)


def _extended(part: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The trimmed garment with its longer side at 28 pixels, centred on the ground."""
    picture = Image.fromarray(np.ascontiguousarray(part))
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    kind = Image.Resampling.BOX if scale < 0.5 else Image.Resampling.BICUBIC
    canvas = Image.new("L", (SIDE, SIDE))
    small = picture if size == picture.size else picture.resize(size, kind)
    # The odd pixel goes before it, as in the data set.
    canvas.paste(small, ((SIDE - size[0] + 1) // 2, (SIDE - size[1] + 1) // 2))
    return np.asarray(canvas.filter(_SHARPENED) if scale < 0.6 else canvas)
