"""The pictures of a network: how it is built, what its first layer looks for, what it makes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from training.anatomy import Block, Maps
from training.figures import RIGHT, png, show

FILL = {"image": "#eeeeee", "convolution": "#dbe8fa", "linear": "#fdebd0"}
ACROSS = 5  # boxes in a line of the diagram
ROWS = 16  # of feature maps, at most
ARROW: Any = {"arrowstyle": "-|>", "mutation_scale": 9, "color": "#666666"}
CHANNELS = 12  # of each layer that are shown


def diagram(blocks: list[Block]) -> bytes:
    """Boxes from the image to the answer, line by line, with shapes on the arrows."""
    lines = -(-len(blocks) // ACROSS)
    tallest = max(len(words(block)) for block in blocks)
    width, height = 2.3, 0.55 + 0.17 * tallest  # inches, of a box
    step, fall = width + 0.55, height + 0.5
    across = min(ACROSS, len(blocks))
    figure = Figure(figsize=(across * step, lines * fall))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, across * step), ylim=(-lines * fall, 0))
    axis.axis("off")

    def corner(k: int) -> tuple[float, float]:
        return k % ACROSS * step + 0.1, -(k // ACROSS) * fall - 0.15

    for k, block in enumerate(blocks):
        left, top = corner(k)
        kind = block.layers[0].text.split()[0].rstrip(",")
        axis.add_patch(
            FancyBboxPatch(
                (left, top - height),
                width,
                height,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=FILL.get(kind, "#e3f1e3"),
                edgecolor="#666666",
                linewidth=0.8,
            )
        )
        for number, text in enumerate(words(block)):
            axis.text(
                left + 0.1,
                top - 0.2 - 0.17 * number,
                text,
                fontsize=8.5 if number == 0 else 7.5,
                fontweight="bold" if number == 0 else "normal",
                color="#111111" if number == 0 else "#444444",
                va="center",
            )
        size = " x ".join(str(side) for side in block.output.shape)
        cost = f",  {block.parameters:,} parameters" if block.parameters else ""
        axis.text(
            left + 0.1, top - height + 0.14, f"{size}{cost}", fontsize=7.5, color=RIGHT, va="center"
        )
        if k + 1 == len(blocks):
            continue
        x, y = corner(k + 1)
        if x > left:
            points = ((left + width + 0.04, top - height / 2), (x - 0.04, y - height / 2))
            axis.add_patch(FancyArrowPatch(*points, **ARROW))
        else:  # to the beginning of the next line
            middle = top - height - (fall - height) / 2
            axis.plot(
                [left + width / 2, left + width / 2, x + width / 2],
                [top - height - 0.03, middle, middle],
                color="#666666",
                linewidth=1,
                solid_joinstyle="round",
            )
            points = ((x + width / 2, middle), (x + width / 2, y + 0.03))
            axis.add_patch(FancyArrowPatch(*points, **ARROW, shrinkA=0, shrinkB=0))
    return png(figure)


def words(block: Block) -> list[str]:
    """What a block does, a line each; what its first line has no room for in a second."""
    first, *others = (layer.text for layer in block.layers)
    heading, *more = first.split(", ")
    lines = [", ".join((heading, *more[:1]))]
    return [*lines, *([", ".join(more[1:])] if more[1:] else []), *others]


def first_filters(weights: Maps, most: int = 48, columns: int = 12) -> bytes:
    """What the first layer looks for, float32[N, C, H, W]: blue for dark, red for light.

    Filters of three channels are shown in their colours, grey being no wish.
    """
    chosen = weights[:most]
    columns = min(columns, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(columns * 0.85, rows * 0.85))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    figure.subplots_adjust(0, 0, 1, 1, 0.1, 0.1)
    for axis in grid:
        axis.axis("off")
    for axis, weight in zip(grid, chosen, strict=False):
        reach = float(np.abs(weight).max()) or 1.0
        if len(weight) == 3:
            show(axis, (weight / reach / 2 + 0.5).transpose(1, 2, 0))
        else:
            show(axis, weight.mean(axis=0), cmap="RdBu_r", vmin=-reach, vmax=reach)
    return png(figure)


def feature_maps(blocks: list[Block], labels: tuple[str, ...]) -> bytes:
    """What each block makes of one image: the channels that vary most, or a vector as a strip.

    The last is what the network says of each class, before the softmax.
    """
    shown = [row for block in blocks for row in rows_of(block)]
    if len(shown) > ROWS:
        shown = [shown[k] for k in np.linspace(0, len(shown) - 1, ROWS).round().astype(int)]
    heights = [1.0 if maps.ndim == 3 else 0.45 for _, maps in shown]
    heights[-1] = 1.2
    title = 0.26  # inches above each row
    width, tall = CHANNELS * 1.0, sum(heights) + len(shown) * (title + 0.06) + 0.3
    figure = Figure(figsize=(width, tall))
    top = tall
    for k, ((name, maps), height) in enumerate(zip(shown, heights, strict=True)):
        figure.text(0, (top - title + 0.07) / tall, name, fontsize=9)
        top -= title
        bottom, full = (top - height) / tall, height * 0.95 / tall
        if maps.ndim == 3:
            panels = liveliest(maps)
            image = blocks[0].layers[0].output
            if k == 0 and len(image) == 3:
                panels.insert(0, image.transpose(1, 2, 0))  # in its colours first
            for column, channel in enumerate(panels):
                axis = figure.add_axes((column / CHANNELS, bottom, 0.95 / width, full))
                show(axis, channel, cmap="gray" if k == 0 else "viridis")
        elif k + 1 < len(shown):
            axis = figure.add_axes((0, bottom, 0.995, full))
            show(axis, maps[None], cmap="viridis")
        else:
            axis = figure.add_axes((0.04, bottom, 0.95, height / tall))
            best = int(maps.argmax())
            colours = [RIGHT if k == best else "#b0b8c4" for k in range(len(maps))]
            axis.bar(range(len(maps)), maps, color=colours)
            axis.axhline(0, color="#666666", linewidth=0.8)
            axis.set_xticks(range(len(labels)), labels, fontsize=8)
            axis.tick_params(axis="x", length=0)
            axis.tick_params(axis="y", labelsize=7)
            axis.margins(x=0.01)
            axis.spines[["top", "right", "bottom"]].set_visible(False)
        top -= height + 0.06
    return png(figure)


def rows_of(block: Block) -> list[tuple[str, Maps]]:
    """A block's last map, and the vector it ends in unless that is but the map laid out."""

    def named(maps: Maps) -> str:
        done = ", ".join(layer.text for layer in block.layers if layer.text != "flatten")
        return f"{done}: {' x '.join(str(side) for side in maps.shape)}"

    maps = [layer.output for layer in block.layers if layer.output.shape[1:] > (1, 1)]
    rows = [(named(maps[-1]), maps[-1])] if maps else []
    end = block.output.squeeze()  # a map of a single point is a vector
    if not maps or (end.ndim == 1 and end.size != maps[-1].size):
        rows.append((named(end), end))
    return rows


def liveliest(maps: Maps) -> list[Maps]:
    """Of float32[C, H, W] the channels that vary most over the image, in their order."""
    order = np.argsort(-maps.std(axis=(1, 2)), kind="stable")[:CHANNELS]
    return [maps[k] for k in sorted(order)]


def asked_pixels(counts: Maps) -> bytes:
    """How often trees ask about each pixel: float32[H, W]."""
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axis = figure.subplots()
    picture = axis.imshow(np.log1p(counts), cmap="magma")
    bar = figure.colorbar(picture, shrink=0.85)
    ticks = [n for n in (0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000) if n <= counts.max()]
    bar.set_ticks([math.log1p(n) for n in ticks], labels=[f"{n:,}" for n in ticks])
    bar.set_label("questions about the pixel")
    axis.axis("off")
    return png(figure)
