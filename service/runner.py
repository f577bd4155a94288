"""One batch through a model: padded where it must be, and halved to find the rows that fail."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifacts.model import Outputs

Pixels = NDArray[np.uint8]
Clock = Callable[[], float]


class Run(NamedTuple):
    """A batch and its answers: outputs, which rows failed (None: none did), begin and end."""

    pixels: Pixels
    outputs: Outputs | None  # None: every row failed
    failed: NDArray[np.bool_] | None
    began: float
    ended: float


class Runner:
    """Runs batches; on the event loop or on the model's thread.

    `predict` answers uint8[N, ...]; `buckets` are the only batch sizes it is called with, the rest
    of a bucket being padded (CUDA plans anew for each size; the CPU needs none).
    """

    def __init__(
        self,
        predict: Callable[[Pixels], Outputs],
        buckets: Sequence[int] = (),
        clock: Clock = time.perf_counter,
    ) -> None:
        self._predict = predict
        self._buckets = tuple(sorted(buckets))
        self._clock = clock

    def run(self, parts: list[Pixels]) -> Run:
        """Run the rows of all parts as one batch. Never raises: a row without an answer failed."""
        began = self._clock()
        try:
            pixels = parts[0] if len(parts) == 1 else np.concatenate(parts)
        except (MemoryError, ValueError):
            pixels = np.empty((0, 1), np.uint8)
            failed = np.ones(sum(map(len, parts)), np.bool_)
            return Run(pixels, None, failed, began, self._clock())
        outputs, none_failed = self.attempt(pixels), None
        if outputs is not None:
            return Run(pixels, outputs, none_failed, began, self._clock())
        try:
            outputs, failed = self._bisect(pixels)
        except MemoryError:
            failed = np.ones(len(pixels), np.bool_)
        return Run(pixels, outputs, failed, began, self._clock())

    def attempt(self, pixels: Pixels) -> Outputs | None:
        """The outputs, or None when the model raised or answered with something not finite."""
        count = len(pixels)
        try:
            if self._buckets:
                pixels = self._padded(pixels)
            outputs = self._predict(pixels)
        except Exception:  # whatever ONNX Runtime raises; the caller hears RowFailed
            return None
        if self._buckets:
            outputs = outputs[:count]
        if len(outputs) != count or not math.isfinite(np.add.reduce(outputs.probabilities, None)):
            return None
        return outputs

    def _padded(self, pixels: Pixels) -> Pixels:
        count = len(pixels)
        size = next((bucket for bucket in self._buckets if bucket >= count), count)
        if size == count:
            return pixels
        return np.concatenate([pixels, np.zeros((size - count, *pixels.shape[1:]), np.uint8)])

    def _bisect(self, pixels: Pixels) -> tuple[Outputs | None, NDArray[np.bool_]]:
        """Answers where there are any, and which rows failed, within a bounded number of runs.

        The bound is what finding two bad rows takes; a model that fails every row costs no more.
        """
        count = len(pixels)
        failed = np.zeros(count, np.bool_)
        runs_left = 4 * count.bit_length()
        answers: list[tuple[int, Outputs]] = []
        suspects = [(0, count)]  # ranges that failed as a whole
        while suspects:
            begin, end = suspects.pop()
            if end - begin == 1 or not runs_left:
                failed[begin:end] = True
                continue
            middle = (begin + end) // 2
            for half in ((begin, middle), (middle, end)):
                outputs = None
                if runs_left:
                    runs_left -= 1
                    outputs = self.attempt(pixels[slice(*half)])
                if outputs is None:
                    suspects.append(half)
                else:
                    answers.append((half[0], outputs))
        if not answers:
            return None, failed
        first = answers[0][1]
        probabilities = np.zeros((count, first.probabilities.shape[1]), np.float32)
        energy = None if first.energy is None else np.zeros(count, np.float32)
        for begin, outputs in answers:
            probabilities[begin : begin + len(outputs)] = outputs.probabilities
            if energy is not None:
                energy[begin : begin + len(outputs)] = outputs.energy
        return Outputs(probabilities, energy), failed
