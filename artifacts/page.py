"""A light page that lies in a picture, a little turned perhaps: cut out, its edges continued."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifacts import ground, strokes

Floats = NDArray[np.float32]
_TURNS = np.deg2rad(np.arange(-24, 25, 3))  # a page turned further is not looked for
_LEAST = 0.06  # the least share of the picture that it covers
_FULL = 0.88  # and the least share of the turned rectangle about it


class Page(NamedTuple):
    """What a page shows, and where its upper left corner is in the picture."""

    grey: NDArray[np.uint8]  # uint8[h, w]; beyond its edges they are continued
    left: int
    top: int


def find(grey: NDArray[np.uint8], values: Floats, factor: int, threshold: float) -> Page | None:
    """The page in uint8[H, W], of which `values` is the reduction by `factor`; None without one.

    It is lighter than `threshold`, of four sides, and touches no side of the picture.
    """
    smooth = ground.blurred(values, 5)
    light = smooth > threshold
    pieces = strokes.pieces(light, light, smooth)
    if not pieces.boxes:
        return None
    left, top, right, bottom = pieces.boxes[0]
    height, width = values.shape
    if left == 0 or top == 0 or right == width or bottom == height:
        return None
    rows, first, last = pieces.outline([0])
    area = int((last - first).sum())
    if area < _LEAST * width * height or int(pieces.area[0]) < 0.7 * area:
        return None
    if area < _FULL * _turned_area(rows, first, last):
        return None
    # Away from its edges, which the light catches and the blur widens.
    reach = max(2, (right - left) // 40)
    first, last = first + reach, last - reach
    wide = last - first >= 0.5 * int((last - first).max())
    wide[: min(reach, wide.size)] = wide[-reach:] = False
    if wide.sum() < 8:
        return None
    rows, first, last = rows[wide], first[wide], last[wide]
    cut = grey[rows[0] * factor : (rows[-1] + 1) * factor, left * factor : right * factor]
    at = np.minimum(np.arange(len(cut)) // factor, len(first) - 1)
    starts, ends = (first[at] - left) * factor, (last[at] - left) * factor
    return Page(_continued(cut, starts, ends), left * factor, int(rows[0]) * factor)


def _turned_area(rows: NDArray[np.intp], first: NDArray[np.intp], last: NDArray[np.intp]) -> float:
    """The area of the least rectangle about an outline, over a few turns."""
    x, y = np.concatenate([first, last]), np.concatenate([rows, rows + 1])
    areas = []
    for turn in _TURNS:
        along = x * np.cos(turn) + y * np.sin(turn)
        across = y * np.cos(turn) - x * np.sin(turn)
        areas.append(float(np.ptp(along) * np.ptp(across)))
    return min(areas)


def _continued(
    cut: NDArray[np.uint8], starts: NDArray[np.intp], ends: NDArray[np.intp]
) -> NDArray[np.uint8]:
    """Each row of uint8[h, w] beyond its start and its end as it is just inside of them."""
    height, width = cut.shape
    columns = np.arange(width)
    reach = max(2, width // 30)
    total = np.cumsum(np.pad(cut.astype(np.float32), ((0, 0), (1, 0))), axis=1)
    every = np.arange(height)
    before = total[every, np.minimum(starts + reach, width)] - total[every, starts]
    after = total[every, np.minimum(ends, width)] - total[every, np.maximum(ends - reach, 0)]
    smooth = np.ones(2 * (height // 40) + 1, np.float32) / (2 * (height // 40) + 1)

    def along(sums: Floats) -> Floats:
        padded = np.pad(sums / reach, height // 40, mode="edge")
        return np.asarray(np.convolve(padded, smooth, "valid")[:, None])

    filled = np.where(columns < starts[:, None], along(before), cut)
    filled = np.where(columns >= ends[:, None], along(after), filled)
    return np.rint(filled).astype(np.uint8)
