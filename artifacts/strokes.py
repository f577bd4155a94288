"""Which of the ink in a picture is one figure: connected pieces, and how they belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]  # left, top, right, bottom; the last two exclusive
_MOST = 48  # pieces considered; the rest are specks beside them
_MAIN = 8  # of these may be a frame or a line


@dataclass(frozen=True)
class Pieces:
    """The connected pieces (8 neighbours) of a mask, the one with the most ink first.

    Kept as horizontal runs, `starts` and `ends` indexing the mask's rows each padded by one.
    """

    shape: tuple[int, int]
    starts: NDArray[np.intp]
    ends: NDArray[np.intp]
    owner: NDArray[np.intp]  # the piece of each run
    ink: NDArray[np.floating]  # sum over each piece
    area: NDArray[np.intp]  # pixels of each piece
    boxes: list[Box]  # of the first pieces, at most _MOST

    def outline(
        self, kept: list[int]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """The rows that `kept` reach, and the first and last (exclusive) column in each."""
        chosen = np.isin(self.owner, kept)
        step = self.shape[1] + 1
        rows, first = np.unique(self.starts[chosen] // step, return_index=True)
        last = np.append(first[1:], int(chosen.sum())) - 1
        return rows, self.starts[chosen][first] % step, self.ends[chosen][last] % step

    def silhouette(self, kept: list[int]) -> int:
        """How many pixels lie between the first and the last of `kept` in each row, together."""
        _, first, last = self.outline(kept)
        return int((last - first).sum())

    def mask(self, kept: list[int]) -> NDArray[np.bool_]:
        """bool[H, W]: the pixels of the pieces `kept`."""
        height, width = self.shape
        chosen = np.isin(self.owner, kept)
        edges = np.zeros(height * (width + 1) + 1, np.int8)
        edges[self.starts[chosen]] = 1
        edges[self.ends[chosen]] -= 1
        return np.cumsum(edges, dtype=np.int8)[:-1].reshape(height, width + 1)[:, :width] > 0


def pieces(mask: NDArray[np.bool_], strong: NDArray[np.bool_], ink: NDArray[np.float32]) -> Pieces:
    """The pieces of `mask` that hold a `strong` pixel; all three are [H, W]."""
    height, width = mask.shape
    step = width + 1
    flat = np.zeros(height * step + 2, np.int8)
    flat[1:-1].reshape(height, step)[:, :width] = mask
    edges = np.diff(flat)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    owner = _united(starts, ends, step)

    def per_run(values: NDArray[np.generic]) -> NDArray[np.float64]:
        total = np.zeros(height * step + 1)
        padded = np.zeros((height, step))
        padded[:, :width] = values
        np.cumsum(padded.ravel(), out=total[1:])
        return total[ends] - total[starts]

    count = len(starts)
    sure = np.bincount(owner, per_run(strong), count) > 0
    weight = np.bincount(owner, per_run(ink), count) * sure
    order = np.argsort(-weight, kind="stable")[: int(sure.sum())]
    rank = np.full(count, -1, np.intp)
    rank[order] = np.arange(len(order))
    owner = rank[owner]
    known = owner >= 0
    starts, ends, owner = starts[known], ends[known], owner[known]
    area = np.bincount(owner, ends - starts, len(order)).astype(np.intp)
    boxes = _boxes(starts, ends, owner, step)
    total = weight[order].astype(np.float64)
    return Pieces((height, width), starts, ends, owner, total, area, boxes)


def _united(starts: NDArray[np.intp], ends: NDArray[np.intp], step: int) -> NDArray[np.intp]:
    """For each run the least run it is connected to, runs of adjoining rows joined at a touch."""
    parent = np.arange(len(starts))
    first = np.searchsorted(ends, starts + step, "left")
    count = np.searchsorted(starts, ends + step, "right") - first
    above = np.repeat(parent, count)
    offset = np.arange(len(above)) - np.repeat(np.cumsum(count) - count, count)
    below = np.repeat(first, count) + offset
    while True:
        one, other = parent[above], parent[below]
        if np.array_equal(one, other):
            return parent
        np.minimum.at(parent, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(parent, grand := parent[parent]):
            parent = grand


def _boxes(
    starts: NDArray[np.intp], ends: NDArray[np.intp], owner: NDArray[np.intp], step: int
) -> list[Box]:
    boxes = []
    for piece in range(min(_MOST, int(owner.max(initial=-1)) + 1)):
        mine = owner == piece
        left, right = starts[mine] % step, ends[mine] % step
        rows = starts[mine] // step
        boxes.append(
            (int(left.min()), int(rows[0]), int(right.max()), int(rows[-1]) + 1),
        )
    return boxes


def union(boxes: list[Box]) -> Box:
    """The least box around all of `boxes`."""
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def scaled(box: Box, factor: int) -> Box:
    """A box in pixels `factor` times as small."""
    return box[0] * factor, box[1] * factor, box[2] * factor, box[3] * factor


def longest(box: Box) -> int:
    """The longer side of a box."""
    return max(box[2] - box[0], box[3] - box[1])


def figures(found: Pieces) -> list[list[int]]:
    """The pieces grouped into figures, each a list of pieces, the main figure first."""
    height, width = found.shape
    boxes = found.boxes
    aside = _aside(found)

    def at_rim(box: Box) -> bool:
        return box[0] == 0 or box[1] == 0 or box[2] == width or box[3] == height

    # What touches the rim is often a page's edge or a shadow: prefer what does not.
    candidates = [k for k in range(len(boxes)) if k not in aside]
    inner = [k for k in candidates if not at_rim(boxes[k])]
    first = candidates[0]
    main = inner[0] if inner and found.ink[inner[0]] >= 0.2 * found.ink[first] else first
    size = longest(boxes[main])
    group, rest = [main], [k for k in candidates if k != main]
    rest = [k for k in rest if found.ink[k] >= 0.015 * found.ink[main]]
    edge_free = main in inner
    growing = True
    while growing:
        growing = False
        around = union([boxes[k] for k in group])
        for k in list(rest):
            if edge_free and at_rim(boxes[k]) and longest(boxes[k]) > 0.5 * size:
                continue
            if _belongs(boxes[k], around):
                group.append(k)
                rest.remove(k)
                growing = True
    size = longest(union([boxes[k] for k in group]))
    others = [
        [k]
        for k in rest
        if longest(boxes[k]) >= 0.45 * size
        and found.ink[k] >= 0.15 * found.ink[main]
        and not at_rim(boxes[k])
    ]
    return [group, *others]


def _aside(found: Pieces) -> set[int]:
    """The pieces that are about a figure and no part of it: a frame or ring around it, a bar along
    the picture's rim, a line under it. Never all of them."""
    height, width = found.shape
    aside: set[int] = set()
    for k, box in enumerate(found.boxes[:_MAIN]):
        wide, high = box[2] - box[0], box[3] - box[1]
        others = [
            other
            for j, other in enumerate(found.boxes[: 2 * _MAIN])
            if j != k and j not in aside and found.ink[j] >= 0.02 * found.ink[k]
        ]
        along = (wide > 0.9 * width and high < 0.25 * height) or (
            high > 0.9 * height and wide < 0.25 * width
        )
        bar = along and (0 in box[:2] or box[2] == width or box[3] == height)
        if (
            (bar and any(_within(other, (0, 0, width, height), 1) for other in others))
            or any(_underlines(box, other) for other in others)
            or (any(_framed(other, box) for other in others) and _is_frame(found, k))
        ):
            aside.add(k)
    return aside


def _within(box: Box, around: Box, margin: int) -> bool:
    """Whether a box lies in another, at least `margin` away from its sides."""
    return (
        box[0] >= around[0] + margin
        and box[1] >= around[1] + margin
        and box[2] <= around[2] - margin
        and box[3] <= around[3] - margin
    )


def _underlines(box: Box, figure: Box) -> bool:
    """Whether a piece is a line drawn under a figure, clear of it and no narrower."""
    wide, high = box[2] - box[0], box[3] - box[1]
    across, tall = figure[2] - figure[0], figure[3] - figure[1]
    middle = (figure[0] + figure[2]) / 2
    return (
        wide > 5 * high
        and wide >= 0.9 * across
        and tall > max(3 * high, 0.3 * wide)
        and box[1] - figure[3] >= 0.08 * tall
        and box[0] <= middle <= box[2]
    )


def _framed(box: Box, frame: Box) -> bool:
    """Whether a piece may be a figure in a frame: within it, and not just a dot."""
    return _within(box, frame, 2) and longest(box) >= 0.3 * longest(frame)


def _is_frame(found: Pieces, piece: int) -> bool:
    """Whether a piece is drawn along the sides of its box, or along the ellipse in it."""
    left, top, right, bottom = found.boxes[piece]
    rows, columns = np.nonzero(found.mask([piece])[top:bottom, left:right])
    u = (columns + 0.5) / (right - left) * 2 - 1
    v = (rows + 0.5) / (bottom - top) * 2 - 1
    by_sides = float(np.mean(np.maximum(np.abs(u), np.abs(v)) > 0.8))
    by_ellipse = float(np.mean(np.abs(np.hypot(u, v) - 0.93) < 0.15))
    # All the way round: something in each of eight directions.
    round_about = np.bincount(((np.arctan2(v, u) / np.pi + 1) * 4).astype(int) % 8, minlength=8)
    return max(by_sides, by_ellipse) > 0.92 and bool(round_about.all())


def _belongs(box: Box, around: Box) -> bool:
    """Whether a piece is a stroke of the figure in `around`, by their distance and sizes."""
    across = max(box[0] - around[2], around[0] - box[2])
    down = max(box[1] - around[3], around[1] - box[3])
    gap = max(across, down, 0)
    size = longest(around)
    tall, other = box[3] - box[1], around[3] - around[1]
    beside = across > 0 > down and min(tall, other) > 0.55 * max(tall, other)
    if beside:  # two of a height side by side are two figures, unless they all but touch
        return gap <= max(1.0, 0.06 * size)
    flat = across < 0 and min(tall, other) < 0.4 * max(tall, other)  # as the bar of a 5
    if longest(box) > 0.5 * size and not flat:
        return gap <= 0.12 * size
    return gap <= 0.25 * size
