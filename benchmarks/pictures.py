"""MNIST as 70,000 PNG files, in a folder for each part and class; for measuring `vitrine score`.

python -m benchmarks.pictures FOLDER [--count N] [--part test]
"""

from __future__ import annotations

import argparse
import gzip
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.images import png

PARTS = {"train": "train", "test": "t10k"}


def write(folder: Path, parts: Sequence[str] = ("train", "test"), count: int | None = None) -> int:
    """Write FOLDER/<part>/<label>/<index>.png, at most `count` of each part; returns how many.

    Reads the files of VITRINE_DATA/mnist. What is there already is left as it is.
    """
    source = Path(os.environ.get("VITRINE_DATA", "data")) / "mnist"
    written = 0
    for part in parts:
        read = {
            kind: gzip.decompress((source / f"{PARTS[part]}-{kind}-ubyte.gz").read_bytes())
            for kind in ("images-idx3", "labels-idx1")
        }
        pixels = np.frombuffer(read["images-idx3"], np.uint8, offset=16).reshape(-1, 28, 28)
        labels = np.frombuffer(read["labels-idx1"], np.uint8, offset=8)
        for label in range(10):
            (folder / part / str(label)).mkdir(parents=True, exist_ok=True)
        for index, (image, label) in enumerate(zip(pixels[:count], labels, strict=False)):
            path = folder / part / str(label) / f"{index:05}.png"
            if not path.exists():
                path.write_bytes(png(image))
            written += 1
    return written


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, help="images of each part; all if not given")
    parser.add_argument("--part", choices=tuple(PARTS), action="append")
    arguments = parser.parse_args(argv)
    written = write(arguments.folder, arguments.part or tuple(PARTS), arguments.count)
    print(f"{written:,} files under {arguments.folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
