"""Data set files on disk -> checked uint8 arrays, divided into parts that never change."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from training.datasets import DATASETS, DataFile, Dataset
from training.download import DownloadFailed, download

Strategy = Literal["standard", "refit", "author", "author-80"]
SYSTEM = Path("/usr/share/datasets")  # where Debian's dataset-* packages install


class BadData(Exception):
    """A data set's file is missing, or is not the file its publisher issued."""


@dataclass(frozen=True)
class Images:
    """uint8[N, H, W] or uint8[N, H, W, 3] pixels, and their uint8[N] labels."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Images:
        return Images(self.pixels[indices], self.labels[indices])


@dataclass(frozen=True)
class Split:
    """Which images of the training files play which part: ascending indices."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    calibration: NDArray[np.int64]

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for name in ("train", "validation", "calibration"):
            digest.update(name.encode())
            digest.update(getattr(self, name).astype("<i4").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Parts:
    """The images a training run may see. The test images are not among them."""

    train: Images
    validation: Images
    calibration: Images
    split_sha256: str


def load(dataset: Dataset, folder: Path | None = None, strategy: Strategy = "standard") -> Parts:
    """The parts of the training files. Searches `folder` and the usual places, or downloads.

    Raises BadData.
    """
    images = read_all(dataset, dataset.train, folder)
    indices = split(images.labels, dataset.validation, dataset.calibration, strategy)
    return Parts(
        images.take(indices.train),
        images.take(indices.validation),
        images.take(indices.calibration),
        indices.sha256,
    )


def load_test(dataset: Dataset, folder: Path | None = None) -> Images:
    """The test images: for `training.evaluate` alone, once a model is finished. Raises BadData."""
    return read_all(dataset, dataset.test, folder)


def split(
    labels: NDArray[np.uint8], validation: int, calibration: int, strategy: Strategy = "standard"
) -> Split:
    """Divide images into parts, each with the classes in the proportions of the whole.

    Within a class the order is that of SHA-256 over the image's index: it depends on no library's
    random numbers. The calibration images are the same whatever the strategy:

    standard    train / validation / calibration
    refit       train and validation together are trained on; nothing is left to choose by
    author      the experiments' way: every image is trained on, calibration images included
    author-80   the same, but a fifth (the held-out parts and more) is kept to validate
    """
    if strategy not in get_args(Strategy):
        raise ValueError(f"split is {strategy!r}, expected one of {get_args(Strategy)}")
    keys = [hashlib.sha256(b"%d" % index).digest() for index in range(len(labels))]
    order = np.array(sorted(range(len(labels)), key=keys.__getitem__), dtype=np.int64)
    by_class = [order[labels[order] == label] for label in np.unique(labels)]
    if strategy == "author-80":
        validation = len(labels) // 5 - calibration
    held = _shares([len(members) for members in by_class], validation + calibration)
    calibrating = _shares(held, calibration)
    everything = np.arange(len(labels), dtype=np.int64)
    nothing = everything[:0]
    calibrated = np.sort(
        np.concatenate([m[:c] for m, c in zip(by_class, calibrating, strict=True)])
    )
    validated = np.sort(
        np.concatenate([m[c:h] for m, c, h in zip(by_class, calibrating, held, strict=True)])
    )
    if strategy == "author":
        return Split(everything, nothing, calibrated)
    if strategy == "refit":
        return Split(np.setdiff1d(everything, calibrated), nothing, calibrated)
    trained = np.setdiff1d(everything, np.concatenate([calibrated, validated]))
    return Split(trained, validated, calibrated)


def _shares(counts: list[int], wanted: int) -> list[int]:
    """`wanted` divided in proportion to `counts`, by largest remainders."""
    exact = [wanted * count / sum(counts) for count in counts]
    shares = [int(value) for value in exact]
    by_remainder = sorted(range(len(counts)), key=lambda k: (shares[k] - exact[k], k))
    for k in by_remainder[: wanted - sum(shares)]:
        shares[k] += 1
    return shares


def read_all(dataset: Dataset, files: tuple[DataFile, ...], folder: Path | None) -> Images:
    """The images of `files`, in order, downloaded first if they are nowhere. Raises BadData."""
    found = [find(dataset, file, folder) for file in files]
    if missing := tuple(f for f, path in zip(files, found, strict=True) if path is None):
        target = (folder or _environment() or Path("data")) / dataset.folders[0]
        try:
            download(dataset, missing, target)
        except DownloadFailed as error:
            raise BadData(_how_to_get(dataset, missing, folder, str(error))) from error
        found = [find(dataset, file, folder) for file in files]
    contents = [read(path, file) for path, file in zip(found, files, strict=True) if path]
    if dataset.form == "idx":
        return Images(parse_idx(contents[0]), parse_idx(contents[1]))
    return parse_cifar(b"".join(contents))


def places(folder: Path | None = None) -> Iterator[Path]:
    """Where data sets are looked for, in order."""
    if folder is not None:
        yield folder
    elif environment := _environment():
        yield environment
    yield from (Path("data"), SYSTEM, Path())


def find(dataset: Dataset, file: DataFile, folder: Path | None = None) -> Path | None:
    """The file, gzipped or raw, in any place, directly or in the data set's own folder."""
    for place in places(folder):
        # A bare `train-images...` could be any data set's: the set's own folders come first, and
        # only a place somebody named is searched itself.
        named = [place] if place in (folder, _environment()) else []
        for directory in (*(place / name for name in dataset.folders), *named):
            for name in (file.name, f"{file.name}.gz", file.name.replace("-idx", ".idx")):
                if (directory / name).is_file():
                    return directory / name
    return None


def read(path: Path, file: DataFile) -> bytes:
    """The decompressed content of `path`, which has to be `file`'s. Raises BadData."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise BadData(f"{path}: cannot be read ({error}); remove it and fetch it again") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise BadData(
            f"{path}: sha256 of its content is {digest[:12]}, the publisher's {file.name} has "
            f"{file.sha256[:12]}; remove the file and fetch it again"
        )
    return content


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes. Raises BadData."""
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise BadData(f"an IDX file of bytes starts with 000008, this one with {content[:3].hex()}")
    dimensions = content[3]
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    pixels = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    if pixels.size != np.prod(shape):
        raise BadData(f"the IDX header says {shape}, which is not {pixels.size} bytes")
    return pixels.reshape(shape)


def parse_cifar(content: bytes) -> Images:
    """Records of one label byte and 3 x 32 x 32 pixel bytes, channel first. Raises BadData."""
    if len(content) % 3073:
        raise BadData(f"{len(content)} bytes are no whole number of 3073-byte CIFAR-10 records")
    records = np.frombuffer(content, np.uint8).reshape(-1, 3073)
    pixels = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Images(np.ascontiguousarray(pixels), records[:, 0].copy())


def dataset_named(name: str) -> Dataset:
    """Raises BadData when there is none."""
    if name not in DATASETS:
        raise BadData(f"no data set is called {name!r}; there are {', '.join(DATASETS)}")
    return DATASETS[name]


def _environment() -> Path | None:
    value = os.environ.get("VITRINE_DATA")
    return Path(value) if value else None


def _how_to_get(
    dataset: Dataset, missing: tuple[DataFile, ...], folder: Path | None, error: str
) -> str:
    return (
        f"{dataset.title}: {', '.join(file.name for file in missing)} not found in "
        f"{', '.join(f'{place}/' for place in places(folder))} (or {dataset.folders[0]}/ there), "
        f"and the download failed ({error}).\nWithout a network: {dataset.ways}. "
        f"Then name the folder with --data or VITRINE_DATA."
    )
