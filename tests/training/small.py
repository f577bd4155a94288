"""Small versions of the real data sets: the committed samples, and files made on the spot."""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.data import Images, Parts
from training.datasets import DATASETS, MNIST, DataFile, Dataset

SAMPLES = Path(__file__).parents[1] / "data"
NOWHERE = ("http://127.0.0.1:9/",)  # the discard port: nothing listens, so it refuses at once


def samples(name: str) -> Images:
    """The few hundred committed test images of a data set, in a fixed mixed order."""
    with np.load(SAMPLES / name / f"{name}.npz") as archive:
        images, labels = archive["images"], archive["labels"]
    order = np.random.default_rng(0).permutation(len(labels))
    return Images(images[order], labels[order])


def parts(name: str, count: int) -> Parts:
    """`count` sample images to train on, and others to validate and to calibrate on."""
    images = samples(name)
    return Parts(
        images.take(np.arange(count)),
        images.take(np.arange(count, count + 60)),
        images.take(np.arange(count + 60, count + 120)),
        "0" * 64,
    )


def idx(array: NDArray[np.uint8]) -> bytes:
    """An IDX file's content."""
    return b"\0\0\x08" + struct.pack(f">B{array.ndim}I", array.ndim, *array.shape) + array.tobytes()


def little_mnist(folder: Path, *, count: int = 200, zipped: bool = True) -> Dataset:
    """A data set in MNIST's form, written to `folder`, its digests those of the files."""
    rng = np.random.default_rng(0)

    def write(file: DataFile, array: NDArray[np.uint8]) -> DataFile:
        content = idx(array)
        name = f"{file.name}.gz" if zipped else file.name
        (folder / name).write_bytes(gzip.compress(content) if zipped else content)
        return replace(file, sha256=hashlib.sha256(content).hexdigest())

    def both(files: tuple[DataFile, ...]) -> tuple[DataFile, ...]:
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        return write(files[0], pixels), write(files[1], labels)

    folder.mkdir(parents=True, exist_ok=True)
    return replace(
        MNIST,
        train=both(MNIST.train),
        test=both(MNIST.test),
        urls=NOWHERE,
        validation=40,
        calibration=20,
    )


__all__ = ["DATASETS", "idx", "little_mnist", "parts", "samples"]


@contextmanager
def at_work_in(folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """The command line's surroundings: a working folder, a store and a few MNIST images there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("VITRINE_STATE", str(folder / "state"))
        patch.setenv("VITRINE_DATA", str(folder / "data"))
        patch.setitem(DATASETS, "mnist", little_mnist(folder / "data/mnist"))
        yield patch
