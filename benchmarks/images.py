"""The real images every server is asked about: MNIST test digits, as pixels and as PNG files."""

from __future__ import annotations

import gzip
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COUNT = 1_000  # different images in rotation, so that nothing is answered from a cache
SIDE = 28  # pixels
SEED = 20_240_601

_COMMITTED = Path(__file__).parent.parent / "tests" / "data"


@dataclass(frozen=True)
class Images:
    """`pixels` uint8[N, 28, 28], the same N images as PNG files, and where they came from."""

    pixels: NDArray[np.uint8]
    files: list[bytes]
    source: str


def load(count: int = COUNT) -> Images:
    """`count` different images, from VITRINE_DATA if it has MNIST, else from tests/data.

    Raises SystemExit when neither place holds any. The committed images are fewer than 1,000; they
    are then turned and mirrored, which keeps every file different and costs a decoder the same.
    """
    data = os.environ.get("VITRINE_DATA", "data")
    path = Path(data) / "mnist" / "t10k-images-idx3-ubyte.gz"
    if path.is_file():
        raw = gzip.decompress(path.read_bytes())
        pixels = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, SIDE, SIDE)
        source = "MNIST test images"
    else:
        pixels = _committed()
        source = f"{len(pixels)} committed test images"
        if len(pixels) < count:
            source += ", turned and mirrored"
            pixels = np.concatenate(
                [np.rot90(side, turn, (1, 2)) for side in (pixels, pixels[:, ::-1])
                 for turn in range(4)]
            )  # fmt: skip
    chosen = np.random.default_rng(SEED).permutation(len(pixels))[:count]
    pixels = np.ascontiguousarray(pixels[chosen])
    return Images(pixels, [png(image) for image in pixels], source)


def png(image: NDArray[np.uint8]) -> bytes:
    """One grey image as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def _committed() -> NDArray[np.uint8]:
    parts = []
    for name in ("mnist", "fashion-mnist"):
        path = _COMMITTED / name / f"{name}.npz"
        if path.is_file():
            with np.load(path) as archive:
                parts.append(archive["images"])
    if not parts:
        raise SystemExit("no images: set VITRINE_DATA to a folder with mnist/, see README.md")
    return np.concatenate(parts)
