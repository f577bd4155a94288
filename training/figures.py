"""The pictures of a report: each function draws one and returns its PNG."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter
from numpy.typing import NDArray

RIGHT, WRONG = "#1f5fbf", "#c62828"


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return buffer.getvalue()


def learning_curves(history: list[dict[str, float]]) -> bytes:
    """Loss, accuracy and learning rate over the epochs, for training and validation."""
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    axes = figure.subplots(1, 3)
    epochs = [line["epoch"] for line in history]
    for axis, what in zip(axes, ("loss", "accuracy"), strict=False):
        for part, colour in (("train", "#e07b00"), ("validation", RIGHT)):
            if f"{part}_{what}" in history[0]:
                values = [line[f"{part}_{what}"] for line in history]
                axis.plot(epochs, values, color=colour, marker=".", label=part)
        axis.set(xlabel="epoch", ylabel=what)
        axis.legend(frameon=False)
    axes[2].plot(epochs, [line["lr"] for line in history], color="#555", marker=".")
    axes[2].set(xlabel="epoch", ylabel="learning rate at the epoch's end")
    return png(figure)


def confusion(matrix: NDArray[np.int64], labels: tuple[str, ...]) -> bytes:
    """Rows true, columns predicted; shaded by share of the row, errors on a scale of their own."""
    figure = Figure(figsize=(7.5, 6.5), layout="constrained")
    axis = figure.subplots()
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    axis.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*matrix.shape):
        if matrix[row, column]:
            colour = "white" if shares[row, column] > 0.4 else "black"
            axis.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour)
    axis.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axis.set_yticks(range(len(labels)), labels)
    axis.set(xlabel="predicted", ylabel="true")
    return png(figure)


def reliability(chances: NDArray[np.float32], labels: NDArray[np.uint8]) -> bytes:
    """How often the model is right where it claims to be, in ten bins of equally many images."""
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axis = figure.subplots()
    claimed = np.sort(chances.max(axis=1))
    right = (chances.argmax(axis=1) == labels)[np.argsort(chances.max(axis=1), kind="stable")]
    points = [
        (said.mean(), found.mean())
        for said, found in zip(np.array_split(claimed, 10), np.array_split(right, 10), strict=True)
    ]
    low = min(min(point) for point in points) - 0.02
    axis.plot([low, 1], [low, 1], color="#999", linestyle="--", label="honest")
    axis.plot(*zip(*points, strict=True), color=RIGHT, marker="o", label="measured")
    axis.set(xlabel="mean confidence", ylabel="share right")
    axis.legend(frameon=False)
    return png(figure)


def risk_coverage(chances: NDArray[np.float32], labels: NDArray[np.uint8]) -> bytes:
    """The errors among the images answered, if only the most confident share is answered."""
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axis = figure.subplots()
    order = np.argsort(-chances.max(axis=1), kind="stable")
    wrong = (chances.argmax(axis=1) != labels)[order]
    count = np.arange(1, len(wrong) + 1)
    axis.plot(count / len(wrong), wrong.cumsum() / count * 100, color=WRONG)
    axis.set(xlabel="share of images answered", ylabel="errors among them, %")
    return png(figure)


def gallery(
    pixels: NDArray[np.uint8], titles: list[str], colours: list[str], columns: int = 10
) -> bytes:
    """Images in a grid, each under its title."""
    rows = -(-len(pixels) // columns)
    figure = Figure(figsize=(columns * 1.15, rows * 1.45), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, image, title, colour in zip(axes, pixels, titles, colours, strict=False):
        show(axis, image)
        axis.set_title(title, color=colour, fontsize=8)
    return png(figure)


def show(axis: Axes, image: NDArray[Any]) -> None:
    """An image without ticks, grey ones in grey."""
    axis.imshow(image, cmap=None if image.ndim == 3 else "gray", interpolation="nearest")
    axis.axis("off")


def feature_maps(layers: list[tuple[str, NDArray[np.float32]]], most: int = 12) -> bytes:
    """What each layer makes of one image: its first channels, float32[C, H, W], in a row."""
    figure = Figure(figsize=(most * 1.0, len(layers) * 1.15), layout="constrained")
    grid = figure.subplots(len(layers), most, squeeze=False)
    for (name, maps), axes in zip(layers, grid, strict=True):
        for axis in axes:
            axis.axis("off")
        for axis, channel in zip(axes, maps, strict=False):
            show(axis, channel)
        axes[0].set_title(name, fontsize=8, loc="left")
    return png(figure)


def trade_off(points: list[tuple[str, float, float]]) -> bytes:
    """Accuracy (0..1) against milliseconds for one image; those that none beats in both linked."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    front = [p for p in points if not any(q[1] >= p[1] and q[2] < p[2] for q in points)]
    front.sort(key=lambda point: point[2])
    axis.plot([p[2] for p in front], [p[1] * 100 for p in front], color=RIGHT, linewidth=1)
    # Names above and below in turn, so that close points do not write over each other.
    for k, (name, accuracy, milliseconds) in enumerate(sorted(points, key=lambda p: p[1])):
        best = any(name == other[0] for other in front)
        axis.plot(milliseconds, accuracy * 100, "o", color=RIGHT if best else "#999")
        axis.annotate(
            name,
            (milliseconds, accuracy * 100),
            fontsize=7,
            xytext=(4, 4 if k % 2 else -11),
            textcoords="offset points",
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.xaxis.set_minor_formatter(FormatStrFormatter("%g"))
    axis.tick_params(axis="x", which="both", labelsize=8)
    axis.set(xlabel="milliseconds for one image, one thread", ylabel="test accuracy, %")
    axis.margins(x=0.2)
    return png(figure)
