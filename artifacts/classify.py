"""An image's bytes -> the rows a model sees; the model's outputs -> the image's one answer.

Serving, scoring and evaluation all go through here, so they cannot disagree.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifacts.canonical import Placed, place
from artifacts.decision import Decision, choose, decide
from artifacts.images import Limits, decode
from artifacts.manifest import Manifest
from artifacts.model import Outputs

Preprocess = Literal["auto", "raw"]

_DEFAULT = Limits()


class Answer(NamedTuple):
    """What is said of one image. (A named tuple: one is made for every request.)"""

    index: int  # type: ignore[assignment]  # the likeliest class; tuple.index is not missed
    confidence: float  # its probability
    decision: Decision
    candidate: int  # which of the image's candidate rows was believed
    probabilities: NDArray[np.float32]  # float32[K]
    energy: float | None  # of that row; None for models without energy


def prepare(
    data: bytes, manifest: Manifest, preprocess: Preprocess = "auto", limits: Limits = _DEFAULT
) -> Placed:
    """The image in `data` as the one or more rows its model is to look at. Raises BadImage."""
    return place(decode(data, limits), manifest.input, preprocess)


def answer(manifest: Manifest, outputs: Outputs, placed: Placed) -> Answer:
    """The one answer for the image whose candidates, in order, got `outputs`.

    An image that shows several digits is never accepted, however sure the model is of one.
    """
    probabilities, energies = outputs.probabilities, outputs.energy
    row = 0 if len(probabilities) == 1 else choose(probabilities, energies)
    chosen = probabilities[row]
    index = int(chosen.argmax())
    confidence = float(chosen[index])
    energy = None if energies is None else float(energies[row])
    decision = decide(manifest, confidence, energy)
    if decision == "accept" and placed.report.get("several"):
        decision = "uncertain"
    return Answer(index, confidence, decision, row, chosen, energy)
