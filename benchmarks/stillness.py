"""How still the machine is: what a request would wait on a core where no server runs at all.

A process pinned to the core does nothing but read the clock; where two readings lie far apart,
something else had the core. A tail of latencies below this one cannot be measured here.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import numpy as np
from numpy.typing import NDArray

LEAST_S = 50e-6  # a shorter gap is the loop's own


def gaps(seconds: float) -> NDArray[np.float64]:
    """How long the core was away, each time it was, in seconds."""
    found: list[float] = []
    clock = time.perf_counter
    before = start = clock()
    while before - start < seconds:
        now = clock()
        if now - before > LEAST_S:
            found.append(now - before)
        before = now
    return np.array(found)


def waits(away: NDArray[np.float64], seconds: float, shares: list[float]) -> list[float]:
    """The wait that so large a share of moments, picked at random in `seconds`, does not exceed.

    A moment within a gap of g waits for the rest of it: all of 0..g are as likely.
    """
    longest = np.sort(away)[::-1]
    found = []
    for share in shares:
        over = (1 - share) * seconds
        low, high = 0.0, float(longest[0]) if len(longest) else 0.0
        for _ in range(50):
            middle = (low + high) / 2
            if np.maximum(longest - middle, 0).sum() > over:
                low = middle
            else:
                high = middle
        found.append(high)
    return found


def measure(cpu: str, seconds: float = 5.0) -> list[float]:
    """p99 and p99.9 of the wait on core `cpu`, in milliseconds, seen by a process of its own."""
    command = ["taskset", "-c", cpu, sys.executable, "-m", "benchmarks.stillness"]
    command += ["--seconds", str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(text) for text in done.stdout.split()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stillness", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for how long (%(default)s)")
    chosen = parser.parse_args()
    print(*(1e3 * s for s in waits(gaps(chosen.seconds), chosen.seconds, [0.99, 0.999])))
