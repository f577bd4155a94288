"""The interval of a share: one formula for manifests, feedback and scoring."""

from __future__ import annotations

from math import sqrt

Z95 = 1.959964  # standard normal quantile of a two-sided 95 % interval


def wilson(correct: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, 0..1, that was `correct` of `count` (Wilson, 1927).

    Honest near 0 and 1, unlike the normal one. With nothing counted it is the whole of 0..1.
    """
    if count == 0:
        return 0.0, 1.0
    share = correct / count
    middle = share + Z95**2 / (2 * count)
    half = Z95 * sqrt(share * (1 - share) / count + Z95**2 / (4 * count**2))
    scale = 1 + Z95**2 / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
