"""What in a grey picture is ink and what is ground, for either polarity and under uneven light."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Polarity = Literal["kept", "inverted"]  # light ink on a dark ground; dark ink on a light one
Floats = NDArray[np.float32]

_SURE = 4.0  # how much stronger the evidence for one polarity must be than for the other
_EVEN = 0.14  # the rim may vary by this share of the picture's range and count as evenly lit
_PHOTO = 72  # pixels; no photo comes smaller
_WINDOW = 0.25  # a stroke is narrower than this share of the picture's shorter side


@dataclass(frozen=True)
class Reading:
    """One way to read a picture: `ink` is float32[H, W] in grey levels, 0 on the ground."""

    ink: Floats
    polarity: Polarity
    ground: Literal["even", "uneven", "striped"]


def readings(values: Floats) -> list[Reading]:
    """How float32[H, W] (0..255) may be read, the likelier way first; two where it is in doubt."""
    rim = _rim(values)
    ordered = np.sort(rim.ravel())
    low, high = np.percentile(values, (0.5, 99.5))
    middle = float(np.median(ordered))
    # What of the rim is as far off as the ink itself will be strokes that touch it.
    bare = ordered[(ordered < middle + 0.6 * (high - middle)) | (ordered - middle < 30)]
    bare = bare[(bare > middle - 0.6 * (middle - low)) | (middle - bare < 30)]
    even = float(np.ptp(bare)) <= max(10.0, _EVEN * float(high - low))
    if even and len(bare) == len(ordered):
        return _even(values, middle)
    striped = _striped(values)
    if striped is not None:
        return [striped]
    flat = _flat(values, float(low), float(high))
    if not flat and even and len(bare) >= 0.55 * len(ordered):
        flat = _even(values, middle)
    if flat and _is_drawn(flat[0].ink):
        return flat
    if flat and _of_one_grey(flat[0].ink) > 0.6:  # very wide strokes, or an overexposed photo
        return [_uneven(values)[0], flat[0]]
    return _uneven(values)


def _is_drawn(ink: Floats) -> bool:
    """Whether ink is nowhere so wide that it must be a shadow, or the light beside one."""
    window = round(0.3 * max(ink.shape)) | 1
    if window > min(ink.shape) or max(ink.shape) < _PHOTO:
        return True
    # A stroke that runs off a file's picture is no wider for that, so what lies beyond it counts as
    # bare. What runs off a photo may well be a shadow.
    widest = -closed(-(np.pad(ink, window // 2) if _of_one_grey(ink) > 0.9 else ink), window)
    return float(widest.max()) < 0.25 * float(ink.max())


def _of_one_grey(ink: Floats) -> float:
    """How much of the ground is of exactly one grey, 0..1: a file's is, a photo's never, or only
    where it is overexposed."""
    return float(np.mean(ink[ink < 8] <= 1))


def _flat(values: Floats, low: float, high: float) -> list[Reading]:
    """Read against the darkest or the lightest grey, if so much of rim and picture is just that:
    a close crop, whose strokes run off the picture. Empty if neither is."""
    sides = np.concatenate([values[0], values[-1], values[1:-1, 0], values[1:-1, -1]])
    slack = max(4.0, 0.03 * (high - low))
    shares = []
    for grey in (low, high):
        rim = float(np.mean(np.abs(sides - grey) <= slack))
        whole = float(np.mean(np.abs(values - grey) <= slack))
        shares.append(rim if rim >= 0.25 and whole >= 0.2 else 0.0)
    light = Reading(np.maximum(values - np.float32(low), 0), "kept", "even")
    dark = Reading(np.maximum(np.float32(high) - values, 0), "inverted", "even")
    if max(shares) == 0:
        return []
    first, second = (light, dark) if shares[0] >= shares[1] else (dark, light)
    return [first] if min(shares) < 0.6 * max(shares) else [first, second]


def _even(values: Floats, ground: float) -> list[Reading]:
    """Read against one grey for the whole ground."""
    off = values - np.float32(ground)
    light = Reading(np.maximum(off, 0), "kept", "even")
    dark = Reading(np.maximum(-off, 0), "inverted", "even")
    slack = 8.0
    up = float(np.square(np.maximum(off - slack, 0)).sum())
    down = float(np.square(np.maximum(-off - slack, 0)).sum())
    return _ordered(light, up, dark, down)


def _striped(values: Floats) -> Reading | None:
    """Read against a ground of black and white bands across the picture, or None if it has none."""
    if min(values.shape) < 16:  # too few pixels to tell bands from strokes
        return None
    for turned in (values, values.T):
        ends = max(1, turned.shape[0] // 28)
        top = turned[:ends].mean(0)
        middle = (float(top.max()) + float(top.min())) / 2
        if float(np.ptp(top)) < 96:
            continue
        bright = top > middle
        share = float(bright.mean())
        bands = int(np.count_nonzero(np.diff(bright))) + 1
        if not (2 <= bands <= 3 and 0.3 <= share <= 0.7):
            continue
        band = np.where(bright, np.median(top[bright]), np.median(top[~bright]))
        ink = np.abs(turned - band.astype(np.float32))
        ends_bare = max(float(ink[:ends].mean()), float(ink[-ends:].mean())) < 16
        sides_bare = max(float(ink[:, 0].mean()), float(ink[:, -1].mean())) < 16
        inked = float(np.mean(ink > 96))
        if ends_bare and sides_bare and 0.03 < inked < 0.4:
            ink = ink if turned is values else np.ascontiguousarray(ink.T)
            return Reading(ink, "kept" if share < 0.5 else "inverted", "striped")
    return None


def _uneven(values: Floats) -> list[Reading]:
    """Read against a ground that follows the light: what remains once narrow strokes are gone."""
    window = max(3, round(_WINDOW * min(values.shape)) | 1)
    smooth = blurred(values, 3)
    light_ground = closed(smooth, window)
    # Light multiplies: divided by its ground, ink in the shadow is as dark as ink in the sun.
    dark_ink = np.asarray(255 - 255 * values / np.maximum(light_ground, 24), np.float32)
    light_ink = np.asarray(values + closed(-smooth, window), np.float32)
    up = np.maximum(values - blurred(values, window), 0)
    down = np.maximum(blurred(values, window) - values, 0)
    # Strokes are few and stand far off the ground, which the cube brings out.
    up_weight, down_weight = float((up**3).sum()), float((down**3).sum())
    return _ordered(
        Reading(_above_median(light_ink), "kept", "uneven"),
        up_weight,
        Reading(_above_median(dark_ink), "inverted", "uneven"),
        down_weight,
    )


def _ordered(light: Reading, up: float, dark: Reading, down: float) -> list[Reading]:
    if up >= down:
        return [light] if up >= _SURE * down else [light, dark]
    return [dark] if down >= _SURE * up else [dark, light]


def _above_median(ink: Floats) -> Floats:
    """`ink` from its median up: most of a picture is ground, whose noise is not ink."""
    above: Floats = np.maximum(ink - np.float32(np.median(ink)), 0)
    return above


def cell(grey: NDArray[np.uint8]) -> int:
    """How many pixels each pixel of uint8[H, W] was repeated, along rows and columns, when it was
    enlarged; 1 for what was not."""
    height, width = grey.shape
    if max(height, width) > 1024:
        return 1
    rows = np.flatnonzero((grey[1:] != grey[:-1]).any(1)) + 1
    columns = np.flatnonzero((grey[:, 1:] != grey[:, :-1]).any(0)) + 1
    if not len(rows) or not len(columns):
        return 1
    size = math.gcd(height, width, *rows.tolist(), *columns.tolist())
    return size if min(height, width) >= 8 * size else 1


def apart(grey: NDArray[np.uint8], cell: int, faint: float) -> tuple[int, int, int, int] | None:
    """The box (left, top, right, bottom) of what is too small to be seen once uint8[H, W] is
    reduced: of all cells that differ from the median by twice `faint`, if they are few."""
    height, width = (side // cell * cell for side in grey.shape)
    cells = grey[:height, :width].reshape(height // cell, cell, width // cell, cell)
    middle = float(np.median(grey[::cell, ::cell]))
    off = np.maximum(cells.max((1, 3)) - middle, middle - cells.min((1, 3))) > 2 * faint
    if not 0 < float(off.mean()) < 0.02:
        return None
    rows, columns = np.flatnonzero(off.any(1)) * cell, np.flatnonzero(off.any(0)) * cell
    return int(columns[0]), int(rows[0]), int(columns[-1]) + cell, int(rows[-1]) + cell


def _rim(values: Floats) -> Floats:
    """The grey of 16 stretches of the rim, four a side: medians, which neither noise nor thin
    strokes move."""
    thick = max(1, min(values.shape) // 20)
    sides = (values[:thick], values[-thick:], values[:, :thick].T, values[:, -thick:].T)
    stretches = [
        np.median(part)
        for side in sides
        for part in np.array_split(side, min(4, side.shape[1]), axis=1)
    ]
    return np.asarray(stretches, np.float32)


def blurred(values: Floats, window: int) -> Floats:
    """The mean over `window` x `window` pixels, fewer at the rim."""
    for axis in (0, 1):
        length = values.shape[axis]
        reach = min(window // 2, length - 1)
        total = np.cumsum(values, axis=axis, dtype=np.float64)
        total = np.insert(total, 0, 0.0, axis=axis)
        places = np.arange(length)
        first, last = np.maximum(places - reach, 0), np.minimum(places + reach + 1, length)
        count = (last - first).reshape((-1, 1) if axis == 0 else (1, -1))
        values = ((total.take(last, axis) - total.take(first, axis)) / count).astype(np.float32)
    return values


def closed(values: Floats, window: int) -> Floats:
    """Morphological closing: dark strokes narrower than `window` filled with what is about them."""
    negative: Floats = -_highest(values, window)
    filled: Floats = -_highest(negative, window)
    return filled


def _highest(values: Floats, window: int) -> Floats:
    """The maximum over `window` x `window` (odd) pixels, by doubling."""
    reach = window // 2
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (reach, reach)
        grown = np.pad(values, pad, constant_values=-np.inf)
        have = 1
        while have < window:
            shift = min(have, window - have)
            length = grown.shape[axis] - shift
            head = grown[:length] if axis == 0 else grown[:, :length]
            tail = grown[shift:] if axis == 0 else grown[:, shift:]
            grown = np.maximum(head, tail)
            have += shift
        values = grown
    return values
