"""What happened since the last flush, in plain lists: 0.15 us a value, where a metric takes 2.

A few times a second it is handed to the metrics, which other processes and scrapes see.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Histogram

from artifacts.decision import decide_each
from artifacts.manifest import Manifest
from artifacts.reference import ink
from service import metrics

if TYPE_CHECKING:
    from artifacts.model import Outputs

INK_EVERY = 8  # runs: of one in so many the ink is measured
INK_ROWS = 64  # of such a run, at most
MAX_KEPT = 4096  # rows of outputs that are kept to be counted together


class Tally:
    """A histogram's counts since the last flush; 0.15 us a value instead of 2."""

    __slots__ = ("_child", "_counts", "_edges", "_sum")

    def __init__(self, histogram: Histogram, *labels: str) -> None:
        self._child = histogram.labels(*labels) if labels else histogram
        self._edges = list(self._child._upper_bounds)
        self._counts = [0] * len(self._edges)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._edges, value)] += 1
        self._sum += value

    def observe_each(self, values: NDArray[np.float64]) -> None:
        """Count many values."""
        found = np.searchsorted(self._edges, values)
        for at, count in enumerate(np.bincount(found, minlength=len(self._counts)).tolist()):
            self._counts[at] += count
        self._sum += float(values.sum())

    def flush(self) -> None:
        """Move the counts into prometheus_client: by its private names, as `observe` does inside.

        tests/service/test_metrics.py holds that the outcome is the same.
        """
        counts = self._counts
        if not any(counts):
            return
        for bucket, count in zip(self._child._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._child._sum.inc(self._sum)
        self._counts, self._sum = [0] * len(counts), 0.0


class ModelMeter:
    """What one version of one model did since the last flush."""

    def __init__(self, manifest: Manifest, provider: str) -> None:
        name, version = manifest.name, manifest.version
        self.manifest = manifest
        self._labels = (name, version, provider)
        self.decode = Tally(metrics.STAGE, "decode", name)
        self.queue = Tally(metrics.STAGE, "queue", name)
        self.infer = Tally(metrics.STAGE, "infer", name)
        self.sizes = Tally(metrics.BATCH, name)
        self.confidence = Tally(metrics.CONFIDENCE, name, version)
        self.ink = Tally(metrics.INK, name, version)
        # Every series exists, at 0, from the moment the model is loaded.
        self._classes = [
            metrics.PREDICTIONS.labels(name, version, label) for label in manifest.classes
        ]
        self._decisions = {
            word: metrics.DECIDED.labels(name, version, word) for word in metrics.DECISIONS
        }
        self._expected = metrics.EXPECTED.labels(name, version)
        self._predicted = [0] * len(self._classes)
        self._decided = dict.fromkeys(metrics.DECISIONS, 0)
        self._confident = 0.0
        self._run = metrics.RUN.labels(name)
        self._in_runs = 0.0  # seconds, each request's own
        self._runs = 0  # so far, to look into every eighth
        self._queue = metrics.QUEUE.labels(name)
        self._kept = 0  # rows that are yet to be counted
        self._probabilities = np.empty((MAX_KEPT, len(manifest.classes)), np.float32)
        self._energies = np.empty(MAX_KEPT, np.float32)
        self._has_energy = "energy" in manifest.outputs

    def batch(self, pixels: NDArray[np.uint8], requests: int, ran_s: float) -> None:
        """A run of N rows of so many requests, uint8[N, ...], took `ran_s` seconds."""
        self.infer.observe(ran_s)
        self._in_runs += requests * ran_s
        self.sizes.observe(len(pixels))
        # A run leaves nothing of this in the caches: 30 us, and one run in eight tells as much.
        if self._runs % INK_EVERY == 0:
            for value in ink(pixels[:INK_ROWS]).tolist():
                self.ink.observe(value)
        self._runs += 1

    def waited(self, queued_s: float) -> None:
        """A request waited so long before its first row ran."""
        self.queue.observe(queued_s)

    def predicted(self, index: int, confidence: float, decision: str) -> None:
        """An image was classified."""
        self._predicted[index] += 1
        self._decided[decision] += 1
        self._confident += confidence
        self.confidence.observe(confidence)

    def answered(self, outputs: Outputs) -> None:
        """Images were classified, one a row: counted with many others, at the latest by `flush`.

        The rows are copied to one place: kept as they are, they would lie between the blocks of the
        next runs and hold up what the allocator could give back or use again.
        """
        rows = len(outputs.probabilities)
        end = self._kept + rows
        if end > MAX_KEPT:
            self._count()
            end = rows
            if rows > MAX_KEPT:
                self._tally(outputs.probabilities, outputs.energy)
                return
        self._probabilities[self._kept : end] = outputs.probabilities
        if outputs.energy is not None:
            self._energies[self._kept : end] = outputs.energy
        self._kept = end

    def _count(self) -> None:
        """Count the rows that were kept."""
        if self._kept:
            energies = self._energies[: self._kept] if self._has_energy else None
            self._tally(self._probabilities[: self._kept], energies)
            self._kept = 0

    def _tally(
        self, probabilities: NDArray[np.float32], energies: NDArray[np.float32] | None
    ) -> None:
        """What `predicted` does for one image, for N."""
        confidences = probabilities.max(1).astype(np.float64)
        classes = np.bincount(probabilities.argmax(1), minlength=len(self._predicted))
        for index, count in enumerate(classes.tolist()):
            self._predicted[index] += count
        for word, count in decide_each(self.manifest, confidences, energies).items():
            self._decided[word] += count
        self._confident += float(confidences.sum())
        self.confidence.observe_each(confidences)

    def live(self, answers: bool) -> None:
        """This version answers, or no longer does, on this worker."""
        name, version, provider = self._labels
        metrics.LIVE.labels(name, version, provider).set(answers)
        accuracy = float(self.manifest.test.get("accuracy", 0.0))
        metrics.OFFLINE.labels(name, version).set(accuracy if answers else 0.0)
        for of, shares in _references(self.manifest):
            for bin_name, above, share in shares:
                metrics.REFERENCE.labels(name, version, of, bin_name, above).set(
                    share if answers else 0.0
                )

    def flush(self, queued: int | None = None) -> None:
        """Hand everything to prometheus_client.

        `queued` is the rows waiting now; None for a version that was replaced, since the gauge is
        its successor's.
        """
        self._count()
        for tally in (self.decode, self.queue, self.infer, self.sizes, self.confidence, self.ink):
            tally.flush()
        for index, count in enumerate(self._predicted):
            if count:
                self._classes[index].inc(count)
                self._predicted[index] = 0
        for word, count in self._decided.items():
            if count:
                self._decisions[word].inc(count)
                self._decided[word] = 0
        if self._in_runs:
            self._run.inc(self._in_runs)
            self._in_runs = 0.0
        if self._confident:
            self._expected.inc(self._confident)
            self._confident = 0.0
            metrics.LAST.labels(self.manifest.name).set(time.time())
        if queued is not None:
            self._queue.set(queued)


class Requests:
    """Requests by surface, model and status since the last flush."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._counts: dict[tuple[str, str, int], int] = {}
        self._durations: dict[tuple[str, str], Tally] = {}
        self._refused: dict[tuple[str, str], int] = {}

    def answered(self, surface: str, model: str, status: int, seconds: float) -> None:
        """One request got its answer; `model` is a served model's name, or "" for none."""
        key = (surface, model, status)
        self._counts[key] = self._counts.get(key, 0) + 1
        if status < 300:
            tally = self._durations.get((surface, model))
            if tally is None:
                tally = self._durations[surface, model] = Tally(metrics.DURATION, surface, model)
            tally.observe(seconds)

    def refused(self, model: str, reason: str) -> None:
        """One request was turned away; `reason` is one of our own words."""
        key = (model, reason)
        self._refused[key] = self._refused.get(key, 0) + 1

    def flush(self) -> None:
        """Hand everything to prometheus_client."""
        counts, self._counts = self._counts, {}
        for (surface, model, status), count in counts.items():
            metrics.REQUESTS.labels(surface, model, str(status)).inc(count)
        refused, self._refused = self._refused, {}
        for (model, reason), count in refused.items():
            metrics.REFUSED.labels(model, reason).inc(count)
        for tally in self._durations.values():
            tally.flush()
        metrics.IN_FLIGHT.set(self.in_flight)


def _references(manifest: Manifest) -> list[tuple[str, list[tuple[str, str, float]]]]:
    """The manifest's reference distributions as (of what, [(bin, its lower edge, share)])."""
    references: dict[str, Any] = manifest.references
    found = []
    classes = references.get("classes")
    if classes:
        none = [""] * len(classes)
        found.append(("class", list(zip(manifest.classes, none, classes, strict=True))))
    for of in ("confidence", "ink"):
        if entry := references.get(of):
            edges = [repr(float(edge)) for edge in entry["edges"]]
            bins = zip([*edges, "+Inf"], ["", *edges], entry["shares"], strict=True)
            found.append((of, list(bins)))
    return found
