"""The distributions that drift is measured against, cut the same way at export and in service."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Upper edges of all bins but the last, which is open; Prometheus' histograms use the same.
CONFIDENCE_EDGES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
INK_EDGES = (0.02, 0.05, 0.08, 0.11, 0.14, 0.17, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8)


def ink(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The mean brightness, 0..1, of each of N images: uint8[N, ...] -> float64[N]."""
    flat = pixels.reshape(len(pixels), math.prod(pixels.shape[1:]))
    means: NDArray[np.float64] = flat.sum(axis=1, dtype=np.uint32) / (255.0 * flat.shape[1])
    return means


def shares(values: NDArray[np.floating], edges: tuple[float, ...]) -> list[float]:
    """The share of `values` in each of the len(edges) + 1 bins; a value on an edge is below it."""
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    return [float(count) / max(1, len(values)) for count in counts]
