"""An upright image becomes the pixels a model wants, and a report of what was done to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from artifacts import digit, garment
from artifacts.images import BadImage
from artifacts.manifest import Input

_FLAT = 48  # grey levels; a picture whose lightness varies less may show something by its colours


@dataclass(frozen=True)
class Placed:
    """One image as a model may see it: one candidate, or two where the polarity is in doubt.

    The candidates are uint8 arrays of the wanted shape, the likelier first; the report JSON-able.
    """

    candidates: tuple[NDArray[np.uint8], ...]
    report: dict[str, Any]


def place(
    image: NDArray[np.uint8], wanted: Input, preprocess: Literal["auto", "raw"] = "auto"
) -> Placed:
    """`image` (uint8[H, W] or uint8[H, W, 3]) by the rules of `wanted.canonicaliser`.

    "raw" only resizes and converts. An image that is already in the data set's own form is passed
    bit-identical. Raises BadImage when nothing is found in it.
    """
    if preprocess == "raw":
        return Placed((fit(image, wanted),), {"preprocess": "raw"})
    if wanted.canonicaliser == "photo":
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        square = image[top : top + side, left : left + side]
        return Placed((fit(square, wanted),), {"box": [left, top, left + side, top + side]})
    grey = lightness(image)
    module = digit if wanted.canonicaliser == "digit" else garment
    candidates, report = module.place(grey)
    if wanted.shape != candidates[0].shape:
        candidates = tuple(fit(each, wanted) for each in candidates)
    return Placed(candidates, report)


def place_each(
    images: Sequence[NDArray[np.uint8]],
    wanted: Input,
    preprocess: Literal["auto", "raw"] = "auto",
) -> list[Placed | BadImage]:
    """`place` of each image, or why it could not be; digits in own form are told all at once."""
    own = np.zeros(len(images), np.bool_)
    if preprocess == "auto" and wanted.canonicaliser == "digit":
        small = [n for n, image in enumerate(images) if image.shape == (digit.SIDE, digit.SIDE)]
        if small and wanted.shape == (digit.SIDE, digit.SIDE):
            own[small] = digit.own_forms(np.stack([images[n] for n in small]))
    found: list[Placed | BadImage] = []
    for image, is_own in zip(images, own.tolist(), strict=True):
        try:
            found.append(Placed(*digit.own(image)) if is_own else place(image, wanted, preprocess))
        except BadImage as error:
            found.append(error)
    return found


def lightness(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8[H, W] of a grey or colour image, weighted as ITU-R 601 has it; grey stays exact.

    Where lightness shows next to nothing but the colours differ (red on green of a kind), the
    direction in which they differ most takes its place.
    """
    if image.ndim == 2:
        return image
    grey = np.asarray(Image.fromarray(image).convert("L"))
    step = max(1, min(grey.shape) // 128)
    if int(np.ptp(grey[::step, ::step])) >= _FLAT:
        return grey
    colours = image[::step, ::step].reshape(-1, 3)
    if int(np.ptp(colours, axis=0).max()) < 2 * _FLAT:
        return grey
    middle = colours.mean(axis=0)
    axis = np.linalg.eigh(np.cov(colours.T))[1][:, -1].astype(np.float32)
    axis = axis if axis.sum() >= 0 else -axis
    along = (image.astype(np.float32) - middle.astype(np.float32)) @ axis
    low, high = float(along.min()), float(along.max())
    stretched: NDArray[np.uint8] = np.rint((along - low) * (255 / (high - low))).astype(np.uint8)
    return stretched


def fit(image: NDArray[np.uint8], wanted: Input) -> NDArray[np.uint8]:
    """`image` resized to the wanted shape and converted to its mode, and nothing else."""
    if image.shape == wanted.shape:
        return image
    picture = Image.fromarray(image)
    if picture.mode != wanted.mode:
        picture = picture.convert(wanted.mode)
    size = (wanted.width, wanted.height)
    smaller = size[0] < picture.width or size[1] < picture.height
    filter_ = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    return np.asarray(picture if picture.size == size else picture.resize(size, filter_))
