"""A picture of a handwritten digit becomes 28x28 pixels as MNIST was made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from artifacts import ground, page, strokes
from artifacts.images import BadImage

SIDE = 28
BOX = 20  # MNIST scaled each digit's longer side to this
CENTRE = 14  # and put its centre of mass here, to the nearest pixel: 13.48 to 14.50 in all 70,000
_SLACK = 0.55  # pixels the centre of mass of an image in own form may be off CENTRE
_DARK_RIM = 1600  # sum over the outermost 108 pixels; at most 932 in MNIST
_BRIGHT = 250  # the least its brightest pixel may be
_ONES = np.ones(SIDE, np.float32)
_INDEX = np.arange(SIDE, dtype=np.float32)

_WORKING = 224  # pixels; the longer side that a digit is looked for at
_FINE = 48  # a digit found smaller than this is looked at again in its own part of the picture
_FAINT = 14.0  # grey levels of contrast; less is blank


@dataclass(frozen=True)
class _Figure:
    """What one reading of a picture shows: float32[h, w] of cropped ink, and where it was."""

    ink: NDArray[np.float32]
    boxes: list[strokes.Box]  # in the picture's own pixels; the digit's first
    polarity: str
    ground: str
    contrast: float  # grey levels between ink and ground
    as_is: NDArray[np.uint8] | None = None  # the whole picture's ink, if nearly in own form


def place(grey: NDArray[np.uint8]) -> tuple[tuple[NDArray[np.uint8], ...], dict[str, Any]]:
    """The digit in uint8[H, W] as uint8[28, 28] candidates, and what was done."""
    if grey.shape == (SIDE, SIDE) and own_form(grey):
        return own(grey)
    height, width = grey.shape
    if min(height, width) < 2 or max(height, width) < 5:
        raise BadImage(f"no digit found: the image is only {width} x {height} pixels")
    cell = ground.cell(grey)
    found = _figures(np.ascontiguousarray(grey[::cell, ::cell]), depth=0)
    if cell > 1:
        boxes = [[strokes.scaled(box, cell) for box in each.boxes] for each in found]
        found = [replace(each, boxes=box) for each, box in zip(found, boxes, strict=True)]
    first = found[0]
    report: dict[str, Any] = {
        "polarity": first.polarity,
        "ground": first.ground,
        "box": list(first.boxes[0]),
    }
    if len(first.boxes) > 1:
        report |= {"several": True, "boxes": [list(box) for box in first.boxes]}
        report["box"] = list(strokes.union(first.boxes))
    candidates = []
    for figure in found:
        if figure.as_is is None or not own_form(figure.as_is):
            candidates.append(centred(figure.ink))
        if figure.as_is is not None:
            candidates.append(figure.as_is)
    return tuple(candidates), report


def own(grey: NDArray[np.uint8]) -> tuple[tuple[NDArray[np.uint8], ...], dict[str, Any]]:
    """An image in own form, placed: as it is."""
    return (grey,), {"polarity": "kept", "box": [0, 0, SIDE, SIDE], "own_form": True}


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
    return bool(BOX - 1 <= longest <= BOX) and int(grey.max()) >= _BRIGHT


def own_forms(greys: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """`own_form` of each of uint8[N, 28, 28], at a quarter of its cost an image.

    All sums are of whole numbers below 2^24, exact in float32, so the two always agree.
    """
    values = greys.astype(np.float32)
    columns, rows = _ONES @ values, values @ _ONES
    mass = columns @ _ONES
    rim = columns[:, 0] + columns[:, -1] + rows[:, 0] + rows[:, -1]
    centred_ = (mass > 0) & (rim <= _DARK_RIM)
    longest = np.zeros(len(greys), np.int64)
    for sums in (columns, rows):
        centre = (sums @ _INDEX).astype(np.float64) / np.maximum(mass, 1)
        centred_ &= np.abs(centre - CENTRE) <= _SLACK
        inked = sums > 0
        span = SIDE - inked.argmax(axis=1) - inked[:, ::-1].argmax(axis=1)
        longest = np.maximum(longest, span)
    sized = (longest >= BOX - 1) & (longest <= BOX)
    bright = greys.reshape(len(greys), -1).max(axis=1) >= _BRIGHT
    own: NDArray[np.bool_] = centred_ & sized & bright
    return own


def _figures(grey: NDArray[np.uint8], depth: int) -> list[_Figure]:
    """The digit under each reading of the picture, the likelier first; at least one."""
    height, width = grey.shape
    factor = -(-max(height, width) // _WORKING)
    small = Image.fromarray(grey).reduce(factor) if factor > 1 else grey
    values = np.asarray(small, np.float32)
    readings = ground.readings(values)
    if depth == 0 and readings[0].ground == "uneven":
        on_page = _on_page(grey, values, factor)
        if on_page is not None:
            return [on_page]
    found = []
    for reading in readings:
        figure = _figure(grey, reading, factor, depth)
        if figure is not None:
            found.append(figure)
    if not found and depth < 2:
        tiny = ground.apart(grey, factor, _FAINT) if factor > 1 else None
        inner = None if tiny is None else _part(grey, tiny, 0.5 * strokes.longest(tiny), 1, depth)
        found = [] if inner is None else [inner[0]]
    if not found:
        raise BadImage("no digit found: the image is blank, or has nothing like a stroke")
    return found


def _on_page(grey: NDArray[np.uint8], values: NDArray[np.float32], factor: int) -> _Figure | None:
    """The digit on a light page that lies in the picture, or None without either."""
    found = page.find(grey, values, factor, 255 * _split(values / np.float32(255)))
    if found is None:
        return None
    try:
        figure = _figures(found.grey, depth=1)[0]
    except BadImage:
        return None
    dx, dy = found.left, found.top
    boxes = [(b[0] + dx, b[1] + dy, b[2] + dx, b[3] + dy) for b in figure.boxes]
    return replace(figure, boxes=boxes)


def _figure(
    grey: NDArray[np.uint8], reading: ground.Reading, factor: int, depth: int
) -> _Figure | None:
    ink = reading.ink
    peak = float(np.sort(ink, None)[-5 if ink.size < 4000 else -12])
    if peak < _FAINT:
        return None
    ink = np.minimum(ink / peak, 1)
    strong = ink > max(0.35, _split(ink))
    if not strong.any():
        return None
    outside = ink[~_grown(strong, 2)]
    clutter = 1.3 * float(np.percentile(outside, 97)) if outside.size else 0.0
    mask = ink > min(max(0.04, clutter), 0.35)
    pieces = strokes.pieces(mask, strong, ink)
    groups = strokes.figures(pieces)
    boxes = [strokes.union([pieces.boxes[k] for k in group]) for group in groups]
    if depth < 2:
        deeper = _closer(grey, pieces, groups, boxes, factor, reading, peak, depth)
        if deeper is not None:
            return deeper
    kept = [k for group in groups for k in group]
    left, top, right, bottom = strokes.union(boxes)
    shown = np.where(_grown(pieces.mask(kept), 1), ink, 0)[top:bottom, left:right]
    as_is = _nearly_own(ink, strokes.longest(boxes[0])) if ink.shape == (SIDE, SIDE) else None
    scaled = [strokes.scaled(box, factor) for box in boxes]
    return _Figure(shown, scaled, reading.polarity, reading.ground, peak, as_is)


def _nearly_own(ink: NDArray[np.float32], longest: int) -> NDArray[np.uint8] | None:
    """float32[28, 28] of ink as it stands, if its centre and size leave it open whether the digit
    is misplaced or something was added to one that was in its place."""
    mass = max(float(ink.sum()), 1e-3)
    off = max(abs(float(ink.sum(axis) @ _INDEX) / mass - CENTRE) for axis in (0, 1))
    if off > 2 or longest < BOX - 4:
        return None
    return np.rint(ink * 255).astype(np.uint8)


def _closer(
    grey: NDArray[np.uint8],
    pieces: strokes.Pieces,
    groups: list[list[int]],
    boxes: list[strokes.Box],
    factor: int,
    reading: ground.Reading,
    peak: float,
    depth: int,
) -> _Figure | None:
    """The digit read again from its own part of the picture, or None when it was seen well enough.

    Either the digit is small in a large picture, or what was found is no stroke but a sheet, with
    the digit on it.
    """
    if _is_sheet(pieces, groups[0], boxes[0]):
        left, top, right, bottom = boxes[0]
        margin = -0.06 * min(right - left, bottom - top)
        inner = _part(grey, boxes[0], margin, factor, depth)
        if inner is None or inner[0].polarity == reading.polarity:
            return None
        figure, (left, top, right, bottom) = inner
        seen = strokes.union(figure.boxes)
        inside = seen[0] > left and seen[1] > top and seen[2] < right and seen[3] < bottom
        return figure if inside and figure.contrast > 0.3 * peak else None
    box = strokes.union(boxes)
    if factor > 1 and strokes.longest(box) < _FINE:
        inner = _part(grey, box, 0.5 * strokes.longest(box), factor, depth)
        return None if inner is None else inner[0]
    return None


def _is_sheet(pieces: strokes.Pieces, group: list[int], box: strokes.Box) -> bool:
    """Whether a figure is too full to be strokes: a page, a plate, a screen."""
    wide, high = box[2] - box[0], box[3] - box[1]
    outline = pieces.silhouette(group)
    return (
        min(wide, high) > max(24, 0.5 * max(wide, high))
        and wide * high > 0.3 * pieces.shape[0] * pieces.shape[1]
        and outline > 0.85 * wide * high
        and int(pieces.area[group].sum()) > 0.7 * outline
    )


def _part(
    grey: NDArray[np.uint8], box: strokes.Box, margin: float, factor: int, depth: int
) -> tuple[_Figure, strokes.Box] | None:
    """The digit within `box` widened by `margin`, and that part of the picture; None if none."""
    height, width = grey.shape
    left, top = max(0, int((box[0] - margin) * factor)), max(0, int((box[1] - margin) * factor))
    right = min(width, int((box[2] + margin) * factor))
    bottom = min(height, int((box[3] + margin) * factor))
    if right - left < 8 or bottom - top < 8:
        return None
    try:
        figure = _figures(np.ascontiguousarray(grey[top:bottom, left:right]), depth + 1)[0]
    except BadImage:
        return None
    boxes = [(b[0] + left, b[1] + top, b[2] + left, b[3] + top) for b in figure.boxes]
    return replace(figure, boxes=boxes), (left, top, right, bottom)


def _split(ink: NDArray[np.float32]) -> float:
    """Otsu's threshold of ink 0..1 (1979): the cut that parts the values into two classes best."""
    counts = np.bincount((ink * 63).astype(np.uint8).ravel(), minlength=64).astype(np.float64)
    levels = np.arange(64) / 63
    below = np.cumsum(counts)
    sums = np.cumsum(counts * levels)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums[-1] * below / below[-1] - sums) ** 2 / (below * above)
    return float(levels[int(np.nanargmax(between[:-1]))]) if below[0] < below[-1] else 0.0


def _grown(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """`mask` and all within `reach` pixels of it, along rows and columns."""
    grown = mask.copy()
    for _ in range(reach):
        mask = grown.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        mask = grown.copy()
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
    return grown


def centred(ink: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Cropped ink (0..1) scaled to the 20-pixel box, its centre of mass at the centre of 28x28."""
    height, width = ink.shape
    scale = BOX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = ink
    if size != (width, height):
        # An area filter, as MNIST's; but a bicubic one where it would repeat whole rows.
        kind = Image.Resampling.BOX if scale < 0.5 else Image.Resampling.BICUBIC
        small = np.asarray(Image.fromarray(ink).resize(size, kind))
    ordered = np.sort(small, None)
    full = max(float(ordered[-max(1, small.size // 50)]), 0.3 * float(ordered[-1]), 1e-3)
    small = np.clip(small / full, 0, 1)
    mass = max(float(small.sum()), 1e-3)
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    starts = []
    for axis, length in ((0, size[1]), (1, size[0])):
        centre = float(small.sum(1 - axis) @ np.arange(length)) / mass
        starts.append(min(max(0, round(CENTRE - centre)), SIDE - length))
    rows = slice(starts[0], starts[0] + size[1])
    columns = slice(starts[1], starts[1] + size[0])
    canvas[rows, columns] = np.rint(small * 255)
    return canvas
