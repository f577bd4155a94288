"""What a model costs where it serves: time and memory, measured in a process of its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import numpy as np

from artifacts.model import Model, load

REPEATS = 200  # predictions that the shortest is taken of, at most
LIMIT_S = 2.0  # after which a large model's fewer repeats are enough
LEAST = 5  # repeats of any model
MANY = 64  # images in a batch


@dataclass(frozen=True)
class Footprint:
    """Of one version on one thread of this machine."""

    one_ms: float  # time of a prediction of one image
    many_ms: float  # the same per image, MANY at a time
    rss_mb: float  # most memory the process held, Python and ONNX Runtime included

    def least(self, other: Footprint) -> Footprint:
        """Of two measurements of the same, what is less: a disturbance only adds."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Footprint(*(min(pair) for pair in pairs))


def footprint(folder: Path) -> Footprint:
    """Measured in a fresh process, whose memory holds nothing else. Raises RuntimeError."""
    command = [sys.executable, "-m", __name__, str(folder)]
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
    )
    if done.returncode:
        raise RuntimeError(f"{folder.parent.name} could not be measured: {done.stderr[-300:]}")
    return Footprint(**json.loads(done.stdout))


def measure(folder: Path) -> Footprint:
    """Here and now. Raises BadArtifact."""
    model = load(folder, execution_provider="cpu", threads=1)
    return Footprint(
        one_ms=shortest_ms(model, 1), many_ms=shortest_ms(model, MANY) / MANY, rss_mb=peak_rss_mb()
    )


def shortest_ms(model: Model, count: int) -> float:
    """How long `predict` takes for `count` images, in milliseconds, when nothing disturbs it.

    The shortest of many, as `timeit` advises: whatever else the machine does only adds to it.
    """
    shape = (count, *model.manifest.input.shape)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    times: list[float] = []
    while len(times) < LEAST or (len(times) < REPEATS and sum(times) < LIMIT_S):
        start = time.perf_counter()
        model.predict(pixels)
        times.append(time.perf_counter() - start)
    return min(times) * 1000


def peak_rss_mb() -> float:
    """The most memory this process has held, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: on Linux that counts what the parent held before this program started.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Path(sys.argv[1])))))
