"""What it costs to place a picture, and that all of MNIST is left as it is.

    python -m benchmarks.placing --data data

All 70,000 MNIST images are to pass bit-identical; placing one of them is to take no longer than
decoding its PNG; a JPEG photo of a megapixel is to be decoded and placed in 25 ms. Times are of
the processor, one thread, medians of interleaved rounds. Exit 0 when all three hold, else 1.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from artifacts.canonical import place, place_each
from artifacts.images import decode
from artifacts.manifest import Input
from benchmarks.accuracy import png
from training import data
from training.datasets import DATASETS
from training.photographs import photo

DIGIT = Input(height=28, width=28, mode="L", canonicaliser="digit")
GARMENT = Input(height=28, width=28, mode="L", canonicaliser="garment")
PHOTO_LIMIT_S = 0.025
ROUNDS = 15


def changed(images: NDArray[np.uint8], wanted: Input) -> int:
    """How many of uint8[N, 28, 28] are not passed bit-identical, one by one and all at once."""
    together = place_each(list(images), wanted)
    wrong = 0
    for image, other in zip(images, together, strict=True):
        for placed in (place(image, wanted), other):
            if isinstance(placed, Exception) or len(placed.candidates) != 1:
                wrong += 1
                break
            if not np.array_equal(placed.candidates[0], image):
                wrong += 1
                break
    return wrong


def cost_s(work: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """The median processor time of each piece of `work`, done in turn."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, function in work.items():
            began = time.thread_time()
            function()
            times[name].append(time.thread_time() - began)
    return {name: median(each) for name, each in times.items()}


def photograph(seed: int) -> bytes:
    """A JPEG photo of a digit, 1155 x 866: a megapixel."""
    sheet = np.zeros((28, 28), np.uint8)
    sheet[5:8, 8:20], sheet[8:23, 13:16] = 255, 255
    small = Image.fromarray(photo(sheet, seed))
    file = io.BytesIO()
    small.resize((1155, 866), Image.Resampling.BICUBIC).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def measure(folder: Path | None) -> dict[str, Any]:
    """All figures. Raises BadData."""
    digits = DATASETS["mnist"]
    parts = [data.read_all(digits, files, folder).pixels for files in (digits.train, digits.test)]
    images = np.concatenate(parts)
    files = [png(image) for image in images[:1000]]
    pixels = [decode(file) for file in files]
    photos = [photograph(seed) for seed in range(5)]
    times = cost_s(
        {
            "decode": lambda: [decode(file) for file in files],
            "place": lambda: [place(each, DIGIT) for each in pixels],
            "photo, digit": lambda: [place(decode(file), DIGIT) for file in photos],
            "photo, garment": lambda: [place(decode(file), GARMENT) for file in photos],
        }
    )
    return {
        "images": len(images),
        "changed": changed(images, DIGIT),
        "decode_us": times["decode"] / len(files) * 1e6,
        "place_us": times["place"] / len(files) * 1e6,
        "ratio": times["place"] / times["decode"],
        "photo_digit_ms": times["photo, digit"] / len(photos) * 1e3,
        "photo_garment_ms": times["photo, garment"] / len(photos) * 1e3,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; see the module's own words."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python -m benchmarks.placing --data data",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="folder of the data sets (or VITRINE_DATA)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args(argv)
    found = measure(arguments.data)
    slowest_ms = max(found["photo_digit_ms"], found["photo_garment_ms"])
    held = not found["changed"] and found["ratio"] <= 1 and slowest_ms <= PHOTO_LIMIT_S * 1e3
    if arguments.json:
        print(json.dumps(found))
        return 0 if held else 1
    alike = found["images"] - found["changed"]
    print(f"{alike:,} of {found['images']:,} MNIST images pass bit-identical")
    print(
        f"placing one: {found['place_us']:.1f} us, decoding its PNG {found['decode_us']:.1f} us: "
        f"{found['ratio']:.2f} of it"
    )
    print(
        f"a JPEG photo of a megapixel, decoded and placed: {found['photo_digit_ms']:.1f} ms as a "
        f"digit, {found['photo_garment_ms']:.1f} ms as a garment; limit {PHOTO_LIMIT_S * 1e3:.0f}"
    )
    return 0 if held else 1


if __name__ == "__main__":
    raise SystemExit(main())
