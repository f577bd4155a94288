"""A few hundred real test images, small enough to commit: what tests and examples run on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from training.data import Images, load_test
from training.datasets import DATASETS

PER_CLASS = {"mnist": 30, "fashion-mnist": 30, "cifar10": 20}
PICTURES = 12  # PNG files of each data set


def write_samples(out: Path, data: Path | None = None) -> list[Path]:
    """For each data set, `out`/<name>/<name>.npz and a dozen `sample_<k>_<label>.png`.

    The first images of each class in the test files, in their order there. Raises BadData.
    """
    written = []
    for dataset in DATASETS.values():
        folder = out / dataset.name
        folder.mkdir(parents=True, exist_ok=True)
        chosen = first_of_each(load_test(dataset, data), PER_CLASS[dataset.name])
        archive = folder / f"{dataset.name}.npz"
        np.savez_compressed(archive, images=chosen.pixels, labels=chosen.labels)
        written.append(archive)
        classes = len(dataset.labels["en"])
        for k in range(PICTURES):
            row = (k % classes) * PER_CLASS[dataset.name] + k // classes
            path = folder / f"sample_{k}_{chosen.labels[row]}.png"
            Image.fromarray(chosen.pixels[row]).save(path)
            written.append(path)
    return written


def first_of_each(images: Images, count: int) -> Images:
    """The first `count` images of each class, grouped by class."""
    rows = [np.flatnonzero(images.labels == label)[:count] for label in np.unique(images.labels)]
    return images.take(np.concatenate(rows))
