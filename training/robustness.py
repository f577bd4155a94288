"""How well a model holds up on pictures unlike its data set's, placed by the code that serves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from artifacts.canonical import place
from artifacts.decision import choose
from artifacts.images import BadImage
from artifacts.model import Model
from training.corruptions import MNIST_C_STYLE, PICTURES

Pixels = NDArray[np.uint8]
_BATCH = 512  # rows at a time


class Seen(NamedTuple):
    """What a model made of some pictures: of those refused, class -1 and infinite energy."""

    classes: NDArray[np.int64]  # int64[N]
    energy: NDArray[np.float64]  # float64[N]; minus the confidence for models without energy
    refused: int  # pictures in which nothing was found
    several: int  # pictures said to show several figures


def look(model: Model, pictures: Iterable[Pixels]) -> Seen:
    """Each picture (uint8[H, W] of any size) through the canonicaliser and the model."""
    rows: list[Pixels] = []
    counts: list[int] = []
    several = 0
    for picture in pictures:
        try:
            placed = place(picture, model.manifest.input)
        except BadImage:
            counts.append(0)
            continue
        several += bool(placed.report.get("several"))
        rows += placed.candidates
        counts.append(len(placed.candidates))
    classes = np.full(len(counts), -1, np.int64)
    energy = np.full(len(counts), np.inf)
    outputs = [
        model.predict(np.stack(rows[start : start + _BATCH]))
        for start in range(0, len(rows), _BATCH)
    ]
    if outputs:
        probabilities = np.concatenate([each.probabilities for each in outputs])
        energies = [each.energy for each in outputs if each.energy is not None]
        known = np.concatenate(energies) if energies else None
        ends = np.cumsum(counts)
        for k, (end, count) in enumerate(zip(ends, counts, strict=True)):
            if not count:
                continue
            mine = slice(end - count, end)
            best = end - count + choose(probabilities[mine], None if known is None else known[mine])
            classes[k] = probabilities[best].argmax()
            energy[k] = -probabilities[best].max() if known is None else known[best]
    return Seen(classes, energy, counts.count(0), several)


def robustness(model: Model, images: Pixels, labels: NDArray[np.uint8]) -> dict[str, Any]:
    """Accuracy (0..1) on `images` (uint8[N, 28, 28]) clean and under each corruption.

    A refused picture counts as wrong.
    """

    def accuracy(pictures: Iterable[Pixels]) -> float:
        return float((look(model, pictures).classes == labels).mean())

    corrupted = {
        name: accuracy(corrupt(image, seed) for seed, image in enumerate(images))
        for name, corrupt in (MNIST_C_STYLE | PICTURES).items()
    }
    style = [corrupted[name] for name in MNIST_C_STYLE]
    return {
        "count": len(images),
        "clean": accuracy(images),
        "mnist_c_style": {"mean": float(np.mean(style)), "worst": min(style)},
        "corruptions": corrupted,
    }


def strangers(model: Model, known: Pixels, others: Mapping[str, Pixels]) -> dict[str, float]:
    """By how much each set of `others` stands out from `known` by the energy: AUROC, 0..1."""
    usual = look(model, known).energy
    return {name: auroc(usual, look(model, images).energy) for name, images in others.items()}


def auroc(low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    """The chance that one of `high` exceeds one of `low`, ties counted half."""
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, "left")
    up_to = np.searchsorted(ordered, high, "right")
    return float((below + up_to).mean() / 2 / len(low))


def noise(count: int, seed: int = 0) -> Pixels:
    """Uniform noise: uint8[count, 28, 28]."""
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), np.uint8)


def blank(count: int, seed: int = 0) -> Pixels:
    """One grey each: uint8[count, 28, 28]."""
    greys = np.random.default_rng(seed).integers(0, 256, count, np.uint8)
    return np.broadcast_to(greys[:, None, None], (count, 28, 28)).copy()


def letters(text: str = "ABCDEFGHJKLMNPQRTUVWXYabdefhkmnprtwxy") -> Pixels:
    """`text` drawn letter by letter with Pillow's own font in a few sizes: uint8[N, 56, 56]."""
    drawn = []
    for size in (24, 32, 40):
        font = ImageFont.load_default(size)
        for letter in text:
            sheet = Image.new("L", (56, 56))
            ImageDraw.Draw(sheet).text((28, 28), letter, fill=255, font=font, anchor="mm")
            drawn.append(np.asarray(sheet))
    return np.stack(drawn)


def colourless(images: Pixels) -> Pixels:
    """uint8[N, H, W, 3] as uint8[N, H, W]."""
    grey: Pixels = np.rint(images @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return grey
