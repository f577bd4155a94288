"""From a model's outputs to what is said of an image: accept, uncertain or alien."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from artifacts.manifest import Manifest

Decision = Literal["accept", "uncertain", "alien"]


def decide(manifest: Manifest, confidence: float, energy: float | None) -> Decision:
    """What to make of a row whose largest probability is `confidence`.

    `alien` (its energy is unlike the training images') outweighs `uncertain`.
    """
    if manifest.alien is not None and energy is not None and energy > manifest.alien.value:
        return "alien"
    return "uncertain" if confidence < manifest.uncertain.value else "accept"


def decide_each(
    manifest: Manifest, confidences: NDArray[np.float64], energies: NDArray[np.float32] | None
) -> dict[Decision, int]:
    """How many of N rows `decide` would call what; both arrays have N elements."""
    alien = np.zeros(len(confidences), np.bool_)
    if manifest.alien is not None and energies is not None:
        alien = energies.astype(np.float64) > manifest.alien.value
    uncertain = ~alien & (confidences < manifest.uncertain.value)
    counts = int(alien.sum()), int(uncertain.sum())
    return {"alien": counts[0], "uncertain": counts[1], "accept": len(alien) - sum(counts)}


def choose(probabilities: NDArray[np.float32], energy: NDArray[np.float32] | None) -> int:
    """The best of one image's candidate rows: lowest energy, or else highest probability.

    `probabilities` is float32[N, K], `energy` float32[N] for models that have one.
    """
    if energy is not None:
        return int(energy.argmin())
    return int(probabilities.max(axis=1).argmax())


def conformal_set(
    manifest: Manifest, probabilities: NDArray[np.float32], level: float
) -> list[int]:
    """The classes, likeliest first, that hold the true one in a share `level` of images.

    Split conformal prediction with the score 1 - p(class) (Vovk 2005; Lei et al. 2018). The
    likeliest class is always in it, so the set is never empty. Raises KeyError for a level that
    was not calibrated.
    """
    quantile = {float(key): value for key, value in manifest.quantiles.items()}[level]
    order = np.argsort(-probabilities, kind="stable")
    inside = [int(index) for index in order if 1.0 - probabilities[index] <= quantile]
    return inside or [int(order[0])]
