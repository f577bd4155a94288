"""Seeded corruptions of a grey image, to measure how robust a model is to pictures as they come.

Each is a pure function of the image (uint8[28, 28], light on dark) and a seed. `MNIST_C_STYLE` are
the fifteen kinds of Mu and Gilmer's MNIST-C (2019), written anew in NumPy: figures measured with
them cannot be compared to those measured on the published set.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training import photographs
from training.photographs import filtered, pixels, warped

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Corruption = Callable[[Pixels, int], Pixels]


def shot_noise(image: Pixels, seed: int) -> Pixels:
    """Photon noise at five photons for white."""
    photons = 5.0
    return pixels(np.random.default_rng(seed).poisson(image / 255 * photons) / photons)


def impulse_noise(image: Pixels, seed: int) -> Pixels:
    """Salt and pepper on 17 % of the pixels."""
    chance = np.random.default_rng(seed).random(image.shape)
    return np.where(chance < 0.085, 0, np.where(chance < 0.17, 255, image)).astype(np.uint8)


def glass_blur(image: Pixels, seed: int) -> Pixels:
    """Blurred, each pixel swapped with a neighbour, and blurred again."""
    rng = np.random.default_rng(seed)
    shuffled = filtered(image / 255, 0.7)
    height, width = image.shape
    for row in range(height - 2, 0, -1):
        steps = rng.integers(-1, 2, (width, 2))
        for column in range(width - 2, 0, -1):
            down, across = steps[column]
            here, there = (row, column), (row + down, column + across)
            shuffled[here], shuffled[there] = shuffled[there], shuffled[here]
    return pixels(filtered(shuffled, 0.7))


def motion_blur(image: Pixels, seed: int) -> Pixels:
    """Smeared over seven pixels in a random direction, nearer ones counting more."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-np.pi / 4, np.pi / 4)
    steps = np.arange(-3, 4)
    weights = np.exp(-0.5 * (steps / 2.0) ** 2)
    total = np.zeros(image.shape, np.float32)
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        move = np.array([[1, 0, step * np.cos(angle)], [0, 1, step * np.sin(angle)]])
        total += weight * warped(image / 255, move)
    return pixels(total)


def _about_centre(image: Pixels, matrix: NDArray[np.float64], shape: tuple[int, int]) -> Pixels:
    """`image` under the inverse of a 2x2 `matrix` about the centre, on a canvas of `shape`."""
    inverse = np.linalg.inv(matrix)
    middle = (np.array(image.shape[::-1]) - 1) / 2
    target = (np.array(shape[::-1]) - 1) / 2
    offset = middle - inverse @ target
    return pixels(warped(image / 255, np.column_stack([inverse, offset]), shape))


def shear(image: Pixels, seed: int) -> Pixels:
    """Slanted by 0.4 columns a row, to either side."""
    amount = 0.4 * np.random.default_rng(seed).choice([-1, 1])
    return _about_centre(image, np.array([[1, amount], [0, 1]]), image.shape)


def rotated(image: Pixels, seed: int, degrees: float = 30.0) -> Pixels:
    """Turned by `degrees`, either way."""
    angle = np.deg2rad(degrees) * np.random.default_rng(seed).choice([-1, 1])
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    side = int(np.ceil(max(image.shape) * 1.3)) if degrees > 30 else max(image.shape)
    return _about_centre(image, matrix, (side, side))


def scaled(image: Pixels, seed: int, factor: float = 0.7) -> Pixels:
    """Each side times `factor`; on a canvas that grows with it above 1, and stays below it."""
    del seed
    side = max(image.shape[0], round(image.shape[0] * factor))
    return _about_centre(image, np.diag([factor, factor]), (side, side))


def brightness(image: Pixels, seed: int) -> Pixels:
    """Half the range added."""
    del seed
    return pixels(image / 255 + 0.5)


def translated(image: Pixels, seed: int, distance: int = 4) -> Pixels:
    """Moved by `distance` pixels in one of eight directions, what leaves the canvas lost."""
    across, down = np.array(_COMPASS[seed % 8]) * distance
    return _moved(image, across, down)


_COMPASS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))


def _moved(image: Pixels, across: int, down: int) -> Pixels:
    height, width = image.shape
    moved = np.zeros_like(image)
    moved[max(0, down) : height + min(0, down), max(0, across) : width + min(0, across)] = image[
        max(0, -down) : height - max(0, down), max(0, -across) : width - max(0, across)
    ]
    return moved


def shifted(image: Pixels, seed: int, distance: int = 6) -> Pixels:
    """As `translated`, with no ink lost: as far as `distance` and the digit's own box allow."""
    across, down = _COMPASS[seed % 8]
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    room = {
        (0, 1): image.shape[0] - 1 - rows[-1],
        (0, -1): rows[0],
        (1, 1): image.shape[1] - 1 - columns[-1],
        (1, -1): columns[0],
    }
    right = across * min(distance, room[1, across]) if across else 0
    lower = down * min(distance, room[0, down]) if down else 0
    return _moved(image, int(right), int(lower))


def stripe(image: Pixels, seed: int) -> Pixels:
    """The outer quarters negated."""
    del seed
    striped = image.copy()
    quarter = image.shape[1] // 4
    striped[:, :quarter] = 255 - striped[:, :quarter]
    striped[:, -quarter:] = 255 - striped[:, -quarter:]
    return striped


def _clouds(shape: tuple[int, int], rng: np.random.Generator, decay: float) -> Floats:
    """A cloudy field 0..1: noise of doubling scale, each octave `decay` times the finer one."""
    total = np.zeros(shape, np.float32)
    for octave in range(5):
        cells = 2**octave + 1
        grid = Image.fromarray(rng.random((cells, cells), np.float32))
        total += np.asarray(grid.resize(shape[::-1], Image.Resampling.BICUBIC)) / decay**octave
    field: Floats = (total - total.min()) / max(1e-6, float(np.ptp(total)))
    return field


def fog(image: Pixels, seed: int) -> Pixels:
    """Clouds of twice the digit's own light laid over it, the whole dimmed to fit."""
    thickness = 1.5
    clouds = _clouds(image.shape, np.random.default_rng(seed), 1.7)
    return pixels((image / 255 + thickness * clouds) / (1 + thickness))


def spatter(image: Pixels, seed: int) -> Pixels:
    """Light drops over the digit, covering about a tenth."""
    field = filtered(np.random.default_rng(seed).standard_normal(image.shape), 1.3)
    drops = np.clip((field - np.quantile(field, 0.9)) / (field.std() + 1e-6), 0, 1)
    return pixels(np.maximum(image / 255, 0.8 * np.minimum(1, drops * 2)))


def dotted_line(image: Pixels, seed: int) -> Pixels:
    """A straight dotted line from side to side."""
    rng = np.random.default_rng(seed)
    return _with_line(image, rng, [(0.0, rng.uniform(0.1, 0.9)), (1.0, rng.uniform(0.1, 0.9))], 3)


def zigzag(image: Pixels, seed: int) -> Pixels:
    """A line of short strokes up and down from side to side."""
    rng = np.random.default_rng(seed)
    start, end = rng.uniform(0.15, 0.85, 2)
    places = np.linspace(0, 1, 9)
    swing = 0.07 * (-1.0) ** np.arange(9)
    heights = start + (end - start) * places + swing
    return _with_line(image, rng, list(zip(places, heights, strict=True)), 0)


def _with_line(
    image: Pixels, rng: np.random.Generator, points: list[tuple[float, float]], gap: int
) -> Pixels:
    """White strokes through `points` (x, y in 0..1), turned anyhow, dotted every `gap` pixels."""
    size, fine = image.shape[0], 4
    angle = rng.uniform(0, np.pi)
    turned = []
    for x, y in points:
        dx, dy = 1.4 * (x - 0.5), y - 0.5
        turned.append(
            (
                (0.5 + dx * np.cos(angle) - dy * np.sin(angle)) * size * fine,
                (0.5 + dx * np.sin(angle) + dy * np.cos(angle)) * size * fine,
            )
        )
    sheet = Image.new("L", (size * fine, size * fine))
    pen = ImageDraw.Draw(sheet)
    if gap:
        (x0, y0), (x1, y1) = turned
        length = int(np.hypot(x1 - x0, y1 - y0) / fine)
        for step in range(0, length, gap):
            x, y = (x0 + (x1 - x0) * step / length), (y0 + (y1 - y0) * step / length)
            pen.ellipse([x - 3, y - 3, x + 3, y + 3], fill=255)
    else:
        pen.line(turned, fill=255, width=fine)
    lined: Pixels = np.maximum(image, np.asarray(sheet.reduce(fine)))
    return lined


def canny_edges(image: Pixels, seed: int) -> Pixels:
    """Only the digit's outlines: where the slope across is steepest, one pixel wide."""
    del seed
    smooth = filtered(image / 255, 1.0)
    down, across = np.gradient(smooth)
    slope = np.hypot(across, down)
    # The slope a pixel before and after, along its own direction.
    rows, columns = np.indices(image.shape)
    unit = np.maximum(slope, 1e-6)
    ahead, behind = (
        slope[
            np.clip(np.rint(rows + sign * down / unit), 0, image.shape[0] - 1).astype(int),
            np.clip(np.rint(columns + sign * across / unit), 0, image.shape[1] - 1).astype(int),
        ]
        for sign in (1, -1)
    )
    return pixels((slope > 0.1) & (slope >= ahead) & (slope > behind))


def inverted(image: Pixels, seed: int) -> Pixels:
    """Dark on light."""
    del seed
    return 255 - image


def stroke(image: Pixels, seed: int, change: float) -> Pixels:
    """Strokes thicker (`change` > 0) or thinner (< 0) by about so many pixels to either side."""
    del seed
    fine = 4
    size = image.shape[0] * fine
    large = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    values = filtered(np.asarray(large) / 255, 1.0)
    steps = round(abs(change) * fine)
    for step in range(steps):  # squares and crosses in turn make an octagon
        values = (
            _dilated(values, step % 2 == 0) if change > 0 else -_dilated(-values, step % 2 == 0)
        )
    return pixels(values.reshape(image.shape[0], fine, image.shape[1], fine).mean((1, 3)))


def _dilated(values: Floats, cross: bool) -> Floats:
    around = np.pad(values, 1, mode="edge")
    height, width = values.shape
    places = [(0, 1), (1, 0), (1, 1), (1, 2), (2, 1)]
    if not cross:
        places += [(0, 0), (0, 2), (2, 0), (2, 2)]
    parts = [around[r : r + height, c : c + width] for r, c in places]
    return np.asarray(np.maximum.reduce(parts), np.float32)


MNIST_C_STYLE: dict[str, Corruption] = {
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "shear": shear,
    "scale": scaled,
    "rotate": rotated,
    "brightness": brightness,
    "translate": translated,
    "stripe": stripe,
    "fog": fog,
    "spatter": spatter,
    "dotted_line": dotted_line,
    "zigzag": zigzag,
    "canny_edges": canny_edges,
}

# What people's own pictures of digits differ by.
PICTURES: dict[str, Corruption] = {
    "inverted": inverted,
    "shift 3": partial(shifted, distance=3),
    "shift 6": partial(shifted, distance=6),
    "scale 0.5": partial(scaled, factor=0.5),
    "scale 0.75": partial(scaled, factor=0.75),
    "scale 1.5": partial(scaled, factor=1.5),
    "scale 2": partial(scaled, factor=2.0),
    "rotation 10": partial(rotated, degrees=10),
    "rotation 20": partial(rotated, degrees=20),
    "thin strokes": partial(stroke, change=-0.5),
    "thick strokes": partial(stroke, change=0.75),
    "transparent": photographs.transparent,
    "jpeg 50": partial(photographs.compressed, quality=50),
    "jpeg 20": partial(photographs.compressed, quality=20),
    "enlarged on white": photographs.on_white,
    "photo": photographs.photo,
}

# And of garments, which touch the rim: a shift loses what leaves the picture.
GARMENTS: dict[str, Corruption] = {
    "inverted": inverted,
    "white ground": photographs.in_a_shop,
    "shift 1": partial(translated, distance=1),
    "shift 3": partial(translated, distance=3),
    "scale 0.5": partial(scaled, factor=0.5),
    "scale 2": partial(scaled, factor=2.0),
    "rotation 10": partial(rotated, degrees=10),
    "transparent": photographs.transparent_garment,
    "jpeg 50": partial(photographs.compressed, quality=50),
    "jpeg 20": partial(photographs.compressed, quality=20),
}

# By the canonicaliser of the model that is to be measured.
KINDS: dict[str, dict[str, Corruption]] = {
    "digit": MNIST_C_STYLE | PICTURES,
    "garment": GARMENTS,
}
