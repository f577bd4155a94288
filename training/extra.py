"""Images beside a data set's own: what `vitrine feedback export --images` wrote."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from training.data import BadData, Images
from training.datasets import Dataset

LIST = "labels.csv"


def load_extra(folder: Path, dataset: Dataset) -> Images:
    """The images that `labels.csv` (path,label) in the folder lists, in its order.

    They are as a model saw them, so they have the data set's own shape. Raises BadData naming the
    file, what was found and what was expected.
    """
    pixels, labels = [], []
    for path, label in _listed(folder):
        try:
            with Image.open(folder / path) as image:
                found = np.asarray(image)
        except (OSError, UnidentifiedImageError) as error:
            raise BadData(f"{folder / path}: not an image that can be read") from error
        if found.shape != dataset.shape or found.dtype != np.uint8:
            raise BadData(
                f"{folder / path}: {found.dtype}{list(found.shape)}, expected "
                f"uint8{list(dataset.shape)}: an image as a model of {dataset.title} saw it"
            )
        pixels.append(found)
        labels.append(_class(label, dataset, folder))
    if not pixels:
        raise BadData(f"{folder / LIST}: lists no image")
    return Images(np.stack(pixels), np.array(labels, np.uint8))


def joined(one: Images, other: Images) -> Images:
    """Both, one after the other."""
    return Images(
        np.concatenate([one.pixels, other.pixels]), np.concatenate([one.labels, other.labels])
    )


def sha256(images: Images) -> str:
    """A digest of pixels and labels."""
    return hashlib.sha256(images.pixels.tobytes() + images.labels.tobytes()).hexdigest()


def _listed(folder: Path) -> list[tuple[str, str]]:
    try:
        with (folder / LIST).open(encoding="utf-8", newline="") as file:
            return [(row["path"], row["label"]) for row in csv.DictReader(file)]
    except FileNotFoundError as error:
        raise BadData(
            f"{folder / LIST}: missing; `vitrine feedback export --images` writes it"
        ) from error
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise BadData(f"{folder / LIST}: not a CSV with the columns path,label") from error


def _class(label: str, dataset: Dataset, folder: Path) -> int:
    for names in dataset.labels.values():
        if label in names:
            return names.index(label)
    raise BadData(f"{folder / LIST}: {label!r} is no class of {dataset.title}")
