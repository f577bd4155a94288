"""The pictures of a comparison: bars for each figure, and accuracy against time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from training.figures import RIGHT, as_accuracy, bare, png

OTHER = "#9aa3b2"  # of models that another beats in both
# Where a label may go, seen from its point, in points: near first, then ever further.
AROUND = (
    *((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)),
    *((2, 1), (2, -1), (-2, 1), (-2, -1), (1, 2), (1, -2), (-1, 2), (-1, -2)),
    *((4, 1), (4, -1), (-4, 1), (-4, -1), (1, 4), (1, -4), (-1, 4), (-1, -4)),
)
RADII = (7, 13, 22, 34, 50, 70, 95, 125, 160)


@dataclass(frozen=True)
class Point:
    """A model in a picture: accuracy 0..1, time for one image, whether no other beats both."""

    name: str
    accuracy: float
    milliseconds: float
    front: bool


@dataclass(frozen=True)
class Panel:
    """One figure of all models; None where it is not known."""

    title: str
    values: list[float | None]
    texts: list[str]
    intervals: list[tuple[float, float]] | None = None  # makes it a panel of accuracies, 0..1


def trade_off(points: list[Point]) -> bytes:
    """Accuracy against milliseconds for one image; those that none beats in both are linked."""
    figure = Figure(figsize=(10.5, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    front = sorted((p for p in points if p.front), key=lambda point: point.milliseconds)
    axis.plot([p.milliseconds for p in front], [error(p) for p in front], color=RIGHT, linewidth=1)
    for point in points:
        colour = RIGHT if point.front else OTHER
        axis.plot(point.milliseconds, error(point), "o", color=colour)
    axis.set_xscale("log")
    axis.set(xlabel="milliseconds for one image, one thread", ylabel="test accuracy")
    axis.margins(x=0.2, y=0.12)
    as_accuracy(axis, "y")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.grid(color="#e6e6e6", linewidth=0.6)
    axis.set_axisbelow(True)
    bare(axis)
    figure.draw_without_rendering()
    label(axis, sorted(points, key=lambda point: (not point.front, -point.accuracy)))
    return png(figure)


def error(point: Point) -> float:
    """1 - accuracy; a model without an error is drawn where half an error in 10,000 would be."""
    return max(5e-5, 1 - point.accuracy)


def label(axis: Axes, points: list[Point]) -> None:
    """Names beside their points, each at the nearest place where it covers nothing."""
    inside = axis.get_window_extent().padded(-6)  # clear of the axes
    centres = axis.transData.transform([(p.milliseconds, error(p)) for p in points])
    dots = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in centres]
    beside = [Bbox.from_bounds(x - 15, y - 8, 30, 16) for x, y in centres]  # for its own name only
    names: list[Bbox] = []
    lines: list[Bbox] = []  # which a name may not cover, but another line may cross
    for line in axis.lines[:1]:  # the one that links the front
        for start, end in pairwise(axis.transData.transform(np.column_stack(line.get_data()))):
            lines += along(start, end)
    for k, (point, centre) in enumerate(zip(points, centres, strict=True)):
        others = dots[k : k + 1] + beside[:k] + beside[k + 1 :]
        for radius, way in ((radius, way) for radius in RADII for way in AROUND):
            text = write(axis, point, radius, way)
            box = text.get_window_extent()
            corners = inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1)
            far = radius * max(map(abs, way)) > RADII[0]
            end = centre + np.array(text.xyann) * axis.figure.dpi / 72
            leader = along(centre, end)[3:] if far else []  # the first lie over its own point
            if (
                corners
                and not overlap([box.padded(2)], others + names + lines)
                and not overlap(leader, dots + names)
            ):
                names.append(box)
                lines += leader
                if far:
                    lead(axis, point, text.xyann)
                break
            text.remove()
        else:  # there is no room: over something else, rather than not at all
            write(axis, point, RADII[0], AROUND[0])


def along(start: NDArray[np.float64], end: NDArray[np.float64]) -> list[Bbox]:
    """A line as small boxes, four pixels from one to the next."""
    count = int(np.hypot(*(end - start)) // 4) + 1
    return [Bbox.from_bounds(x - 1, y - 1, 2, 2) for x, y in np.linspace(start, end, count)]


def overlap(boxes: list[Bbox], others: list[Bbox]) -> bool:
    return any(box.overlaps(other) for box in boxes for other in others)


def write(axis: Axes, point: Point, radius: int, way: tuple[int, int]) -> Annotation:
    """A point's name, so far from it."""
    right, up = way
    return axis.annotate(
        point.name,
        (point.milliseconds, error(point)),
        xytext=(right * radius, up * radius),
        textcoords="offset points",
        ha="center" if not right else "left" if right > 0 else "right",
        va="center" if not up else "bottom" if up > 0 else "top",
        fontsize=7.5,
        color="#111111" if point.front else "#666666",
    )


def lead(axis: Axes, point: Point, away: tuple[float, float]) -> None:
    """A line from a point to its name."""
    axis.annotate(
        "",
        (point.milliseconds, error(point)),
        xytext=away,
        textcoords="offset points",
        arrowprops={"arrowstyle": "-", "color": "#888888", "linewidth": 0.7},
    )


def bars(names: list[str], panels: list[Panel], front: set[str]) -> bytes:
    """One panel for each figure, all with the same models from the top, the first at the top."""
    across = 4
    down = -(-len(panels) // across)
    figure = Figure(figsize=(13, down * (0.8 + 0.27 * len(names))), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    colours = [RIGHT if name in front else OTHER for name in names]
    rows = list(range(len(names)))
    for k, axis in enumerate(grid.ravel()):
        if k >= len(panels):
            axis.axis("off")
            continue
        draw(axis, panels[k], rows, colours)
        axis.set_yticks(rows, names if k % across == 0 else [""] * len(names), fontsize=8)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.set_title(panels[k].title, fontsize=9, loc="left")
        axis.tick_params(axis="x", labelsize=7)
        axis.tick_params(axis="y", length=0)
        bare(axis)
    return png(figure)


def draw(axis: Axes, panel: Panel, rows: list[int], colours: list[str]) -> None:
    """Bars on a logarithmic scale; accuracies, which have no zero there, as points with ranges."""
    style: dict[str, Any] = {"fontsize": 7, "va": "center", "color": "#333333"}
    known = [value for value in panel.values if value is not None]
    if panel.intervals is not None:
        errors = [max(5e-5, 1 - value) for value in known]
        for row, (low, high), middle in zip(rows, panel.intervals, errors, strict=True):
            axis.plot([max(5e-5, 1 - low), max(5e-5, 1 - high)], [row, row], color=colours[row])
            axis.plot(middle, row, "o", color=colours[row], markersize=4)
            axis.annotate(
                panel.texts[row],
                (middle, row),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                fontsize=6.5,
                color="#333333",
            )
        axis.margins(x=0.12)
        as_accuracy(axis, "x")
        return
    above = [value for value in known if value > 0]
    least, most = min(above, default=0.1), max(above, default=1.0)
    start = least / 2
    axis.set_xscale("log")
    axis.set_xlim(start, max(most, start * 10) * (most / start) ** 0.4)
    axis.xaxis.set_major_locator(LogLocator(numticks=4))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    for row, value, text in zip(rows, panel.values, panel.texts, strict=True):
        if value is not None and value > 0:
            axis.barh(row, value - start, left=start, color=colours[row], height=0.7)
        end = start if value is None or value <= 0 else value
        axis.annotate(text, (end, row), xytext=(3, 0), textcoords="offset points", **style)
