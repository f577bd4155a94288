"""The pictures of a comparison: bars for each figure, and accuracy against time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import textalloc
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from training.figures import RIGHT, as_accuracy, bare, png

OTHER = "#9aa3b2"  # of models that another beats in both


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
    line = [point.milliseconds for point in front], [error(point) for point in front]
    axis.plot(*line, color=RIGHT, linewidth=1)
    for point in points:
        colour = RIGHT if point.front else OTHER
        axis.plot(point.milliseconds, error(point), "o", color=colour)
    axis.set_xscale("log")
    axis.set(xlabel="milliseconds for one image, one thread", ylabel="test accuracy")
    axis.margins(x=0.4, y=0.12)  # room for names
    as_accuracy(axis, "y")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.grid(color="#e6e6e6", linewidth=0.6)
    axis.set_axisbelow(True)
    bare(axis)
    figure.draw_without_rendering()
    label(axis, points, line)
    return png(figure)


def error(point: Point) -> float:
    """1 - accuracy; a model without an error is drawn where half an error in 10,000 would be."""
    return max(5e-5, 1 - point.accuracy)


def label(axis: Axes, points: list[Point], front: tuple[list[float], list[float]]) -> None:
    """Names beside their points, over nothing else: neither each other, nor the front's line."""
    x, y = [point.milliseconds for point in points], [error(point) for point in points]
    textalloc.allocate(
        axis,
        x,
        y,
        [point.name for point in points],
        x_scatter=x,
        y_scatter=y,
        x_lines=[front[0]],
        y_lines=[front[1]],
        textsize=7.5,
        textcolor=["#111111" if point.front else "#666666" for point in points],
        linecolor="#888888",
        linewidth=0.7,
        margin=0.006,
        min_distance=0.012,
        max_distance=0.25,
        nbr_candidates=1500,
        avoid_label_lines_overlap=True,
        avoid_crossing_label_lines=True,
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
