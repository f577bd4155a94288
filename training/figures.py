"""The pictures of a report about data and answers: each function draws one, returns its PNG."""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from artifacts.interval import wilson

RIGHT, WRONG, PLAIN, SECOND = "#1f5fbf", "#c62828", "#222222", "#d97700"
CONFIDENCE_PARTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
Caption = list[tuple[str, str]]  # lines of text with the colour of each


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", facecolor="white")
    return buffer.getvalue()


def bare(axis: Axes) -> None:
    """Only the two axes that are read."""
    axis.spines[["top", "right"]].set_visible(False)


def as_accuracy(axis: Axes, which: Literal["x", "y"]) -> None:
    """An axis of errors (1 - accuracy, above 0) that reads as accuracy and spreads its top end."""
    if which == "y":
        axis.set_yscale("log")
        axis.invert_yaxis()
    else:
        axis.set_xscale("log")
        axis.invert_xaxis()
    chosen = axis.yaxis if which == "y" else axis.xaxis
    low, high = sorted(axis.get_ylim() if which == "y" else axis.get_xlim())
    # As coarse as gives three ticks: 90, 99, 99.9 for a wide range, 97, 97.5, 98 for a narrow one.
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(k / 4 for k in range(4, 40))):
        ticks = [step * 10.0**power for power in range(-6, 1) for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high and tick < 1]
        if len(ticks) >= 4:
            break
    if which == "x" and len(ticks) > 5:  # side by side they need more room
        ticks = ticks[::2]
    chosen.set_major_locator(FixedLocator(ticks))
    chosen.set_minor_locator(NullLocator())
    chosen.set_major_formatter(FuncFormatter(lambda error, _: f"{(1 - error) * 100:.6g} %"))


def learning_curves(
    history: list[dict[str, float]], validated: list[dict[str, float]] | None = None
) -> bytes:
    """Loss, accuracy and learning rate over the epochs, for training and validation.

    `validated` is the history of the run that stood in for validation, where `history` has none.
    """
    figure = Figure(figsize=(12.5, 3.6), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, what in zip(axes, ("loss", "accuracy"), strict=False):
        for part, colour in (("train", SECOND), ("validation", RIGHT)):
            key = f"{part}_{what}"
            lines = [line for line in history if key in line]
            lines = lines or [line for line in validated or [] if key in line]
            if lines:
                last = lines[-1][key]
                label = f"{part}: {last:.4f} at last"
                # Of an accuracy the errors are drawn, on an axis that reads as accuracy.
                values = [line[key] for line in lines]
                if what == "accuracy":
                    values = [max(1e-5, 1 - value) for value in values]
                epochs = [line["epoch"] for line in lines]
                axis.plot(epochs, values, color=colour, marker=".", label=label)
        axis.set(xlabel="epoch", ylabel=what)
        axis.legend(frameon=False)
    plain_log(axes[0])
    as_accuracy(axes[1], "y")
    epochs = [line["epoch"] for line in history]
    axes[2].plot(epochs, [line["lr"] for line in history], color="#555", marker=".")
    axes[2].set(xlabel="epoch", ylabel="learning rate at the epoch's end")
    axes[2].set_ylim(bottom=0)
    for axis in axes:
        bare(axis)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return png(figure)


def plain_log(axis: Axes) -> None:
    """A logarithmic y axis with ticks at 1, 2 and 5, written as people write numbers."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.10g}"))
    axis.yaxis.set_minor_locator(NullLocator())


def confusion(matrix: NDArray[np.int64], labels: tuple[str, ...]) -> bytes:
    """Rows true, columns predicted. Right answers are blue, wrong ones red, by share of the row.

    Reds have a scale of their own: errors are few, and would all look alike on the other.
    """
    figure = Figure(figsize=(7.8, 6.8), layout="constrained")
    axis = figure.subplots()
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    diagonal = np.eye(len(matrix), dtype=bool)
    largest = max(float(shares[~diagonal].max(initial=0)), 1e-9)
    right = np.ma.masked_where(~diagonal, shares)
    wrong = np.ma.masked_where(diagonal | (matrix == 0), np.sqrt(shares / largest))
    axis.imshow(right, cmap="Blues", vmin=0, vmax=1.3)
    axis.imshow(wrong, cmap="Reds", vmin=0, vmax=1.6)
    for row, column in np.ndindex(*matrix.shape):
        if matrix[row, column]:
            dark = row == column and shares[row, column] > 0.6
            axis.text(
                column,
                row,
                f"{matrix[row, column]:,}",
                ha="center",
                va="center",
                color="white" if dark else "black",
                fontsize=9,
            )
    if max(map(len, labels)) > 3:
        axis.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor")
    else:
        axis.set_xticks(range(len(labels)), labels)
    axis.set_yticks(range(len(labels)), labels)
    axis.set(xlabel="predicted", ylabel="true")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    return png(figure)


def reliability(chances: NDArray[np.float32], labels: NDArray[np.uint8]) -> bytes:
    """How often the model is right where it claims to be, and how often it claims what.

    Bars are 95 % intervals: where few images claim so much, little is known. Below, all images.
    """
    figure = Figure(figsize=(4.9, 4.9), layout="constrained")
    axis, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    claimed = chances.max(axis=1)
    right = chances.argmax(axis=1) == labels
    part = np.digitize(claimed, CONFIDENCE_PARTS)
    low = max(0.0, float(np.floor(claimed.min() * 10) / 10))
    axis.plot([low, 1], [low, 1], color="#999", linestyle="--", label="as often as claimed")
    first = True
    for k in np.unique(part):
        inside = part == k
        hits, count = int(right[inside].sum()), int(inside.sum())
        share, (least, most) = hits / count, wilson(hits, count)
        axis.errorbar(
            float(claimed[inside].mean()),
            share,
            # Rounding may put a bound a hair's breadth on the wrong side of its share.
            [[max(0.0, share - least)], [max(0.0, most - share)]],
            color=RIGHT,
            marker="o",
            capsize=3,
            label="measured" if first else None,
        )
        first = False
    axis.set(ylabel="share right", xlim=(low, 1.01), ylim=(0, 1.02))
    axis.legend(frameon=False, loc="lower right")
    below.hist(claimed, bins=np.linspace(low, 1, 41).tolist(), color=RIGHT)
    below.set_yscale("log")
    below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    below.set(xlabel="confidence (largest probability)", ylabel="images")
    bare(axis)
    bare(below)
    return png(figure)


def risk_coverage(chances: NDArray[np.float32], labels: NDArray[np.uint8]) -> bytes:
    """The errors among the images answered, if only the most confident share is answered.

    The first twentieth is left out: one error among so few says nothing.
    """
    figure = Figure(figsize=(4.9, 4.9), layout="constrained")
    axis = figure.subplots()
    order = np.argsort(-chances.max(axis=1), kind="stable")
    wrong = (chances.argmax(axis=1) != labels)[order]
    count = np.arange(1, len(wrong) + 1)
    risk = wrong.cumsum() / count * 100
    start = len(wrong) // 20
    axis.plot(count[start:] / len(wrong) * 100, risk[start:], color=WRONG)
    words = []
    for share in (0.8, 0.9, 0.95, 1.0):
        k = max(0, round(share * len(wrong)) - 1)
        axis.plot(share * 100, risk[k], "o", color=WRONG, markersize=4)
        words.append(f"{share:4.0%} answered: {risk[k]:.2f} % wrong")
    axis.text(0.05, 0.95, "\n".join(words), transform=axis.transAxes, va="top", fontsize=9)
    axis.set(xlabel="images answered, %", ylabel="errors among them, %", xlim=(0, 101))
    axis.set_ylim(0, max(float(risk[start:].max()) * 1.25, 0.01))
    bare(axis)
    return png(figure)


def gallery(pixels: NDArray[np.uint8], captions: list[Caption], columns: int = 10) -> bytes:
    """Images in a grid, each under the lines of its caption."""
    lines = max((len(caption) for caption in captions), default=0)
    columns = min(columns, max(1, len(pixels)))
    rows = max(1, -(-len(pixels) // columns))
    line, side, gap = 0.155, 1.0, 0.14  # inches
    height = side + lines * line + 0.08
    figure = Figure(figsize=(columns * (side + gap), rows * height))
    width, tall = figure.get_size_inches()
    for k, (image, caption) in enumerate(zip(pixels, captions, strict=True)):
        row, column = divmod(k, columns)
        left, bottom = column * (side + gap), (rows - row - 1) * height
        axis = figure.add_axes(
            (left / width, bottom / tall, side / width, side / tall)  # fractions of the figure
        )
        show(axis, image)
        for number, (text, colour) in enumerate(reversed(caption)):
            figure.text(
                (left + side / 2) / width,
                (bottom + side + 0.05 + number * line) / tall,
                text,
                color=colour,
                fontsize=8,
                ha="center",
            )
    return png(figure)


def show(axis: Axes, image: NDArray[Any], **scale: Any) -> None:
    """An image without ticks, grey ones in grey."""
    axis.imshow(
        image, cmap=scale.pop("cmap", "gray"), interpolation="nearest", aspect="auto", **scale
    )
    axis.axis("off")
