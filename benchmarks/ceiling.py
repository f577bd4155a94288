"""What one core could do at best, with no HTTP: run as a process of its own, pinned.

`python -m benchmarks.ceiling MODEL SECONDS` prints images a second as JSON: `png`, decoding every
file with Pillow and running the model at its best batch; `tensor`, the model alone at batch 32.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import images, reference
from benchmarks.forms import BATCH

BATCHES = (8, 16, 32, 64)  # the best of these is the ceiling


def measure(model: Path, seconds: float) -> dict[str, float]:
    """Images a second on the calling thread; `seconds` for each of the two figures."""
    shown = images.load()
    session = reference.session(model.read_bytes())
    pixels = shown.pixels

    def run(batch: int, first: int) -> None:
        session.run(["probabilities"], {"images": pixels[first : first + batch]})

    def decode_and_run(batch: int, first: int) -> None:
        rows = [
            np.asarray(Image.open(io.BytesIO(file)).convert("L"))
            for file in shown.files[first : first + batch]
        ]
        session.run(["probabilities"], {"images": np.stack(rows)})

    def rate(step: Callable[[int, int], None], batch: int, limit: float) -> float:
        count, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < limit:
            step(batch, count % (len(pixels) - batch))
            count += batch
        return count / spent

    rate(run, BATCH, seconds / 10)
    png = max(rate(decode_and_run, batch, seconds / len(BATCHES)) for batch in BATCHES)
    return {"png": png, "tensor": rate(run, BATCH, seconds)}


def pinned(model: Path, seconds: float, cpu: str) -> dict[str, float]:
    """`measure` in a process of its own on the core `cpu`."""
    command = ["taskset", "-c", cpu, sys.executable, "-m", "benchmarks.ceiling"]
    ended = subprocess.run(
        [*command, str(model), str(seconds)],
        capture_output=True,
        check=True,
        cwd=Path(__file__).parent.parent,
        timeout=60 + 4 * seconds,
    )
    measured: dict[str, float] = json.loads(ended.stdout)
    return measured


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), float(sys.argv[2]))))
