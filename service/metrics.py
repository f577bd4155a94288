"""Every Prometheus metric, declared once; counted in plain lists, flushed a few times a second.

With several workers prometheus_client keeps its values in files (PROMETHEUS_MULTIPROC_DIR, set by
BentoML before this is imported). A call of it costs 1 to 2 us; the hot path makes none.
"""

from __future__ import annotations

import contextlib
import os
import time
from bisect import bisect_left
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from artifacts.decision import decide_each
from artifacts.manifest import Manifest
from artifacts.reference import CONFIDENCE_EDGES, INK_EDGES, ink

if TYPE_CHECKING:
    from artifacts.model import Outputs

FLUSH_S = 0.25
CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()
SECONDS = (
    *(0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01),
    *(0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
INK_EVERY = 8
MAX_UNCOUNTED = 4096  # rows of outputs that are kept to be counted together
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
STAGES = ("decode", "queue", "infer")
DECISIONS = ("accept", "uncertain", "alien")

_MODEL = ("model", "version")

REQUESTS = Counter(
    "vitrine_requests", "Requests answered, by HTTP status.", ("surface", "model", "status")
)
DURATION = Histogram(
    "vitrine_request_duration_seconds",
    "From the request's head to its answer, successes only.",
    ("surface", "model"),
    buckets=SECONDS,
)
STAGE = Histogram(
    "vitrine_stage_duration_seconds",
    "Where the time goes: decode an image, wait in the queue, run a batch.",
    ("stage", "model"),
    buckets=SECONDS,
)
BATCH = Histogram("vitrine_batch_size_rows", "Rows in one run.", ("model",), buckets=ROWS)
REFUSED = Counter("vitrine_refused", "Requests not served, by reason.", ("model", "reason"))
PREDICTIONS = Counter(
    "vitrine_predictions", "Images classified, by predicted class.", (*_MODEL, "class")
)
DECIDED = Counter("vitrine_decisions", "Images by what was made of them.", (*_MODEL, "decision"))
EXPECTED = Counter(
    "vitrine_expected_correct",
    "Sum of calibrated confidences: how many predictions should be right, known without labels.",
    _MODEL,
)
CONFIDENCE = Histogram(
    "vitrine_confidence", "The largest probability.", _MODEL, buckets=CONFIDENCE_EDGES
)
INK = Histogram(
    "vitrine_ink",
    "Mean brightness, 0..1, of the pixels a model saw; of one row in eight.",
    _MODEL,
    buckets=INK_EDGES,
)
LAST = Gauge(
    "vitrine_last_prediction_timestamp_seconds",
    "When an image was last classified, Unix time.",
    ("model",),
    multiprocess_mode="max",
)
RELOADS = Counter("vitrine_reloads", "Versions adopted or refused.", ("model", "outcome"))

IN_FLIGHT = Gauge(
    "vitrine_in_flight_requests", "Requests being answered.", multiprocess_mode="livesum"
)
QUEUE = Gauge(
    "vitrine_queue_rows", "Rows waiting for a run.", ("model",), multiprocess_mode="livesum"
)
READY = Gauge(
    "vitrine_workers_ready", "Workers that answer predictions.", multiprocess_mode="livesum"
)
MEMORY = Gauge(
    "vitrine_worker_resident_memory_bytes", "Of the largest worker.", multiprocess_mode="livemax"
)
LAG = Histogram(
    "vitrine_event_loop_lag_seconds",
    "How late the event loop came to a timer: its longest stop since the tick before.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
LIVE = Gauge(
    "vitrine_live_version",
    "Workers on which this version answers; a version that was replaced is 0.",
    (*_MODEL, "provider"),
    multiprocess_mode="livesum",
)
ASKED = Gauge(
    "vitrine_execution_provider_asked",
    "1 for the one configured.",
    ("provider",),
    multiprocess_mode="livemax",
)
CUDA_UNUSED = Gauge(
    "vitrine_cuda_unused",
    "1 where ONNX Runtime was built for CUDA and may use it, and models run on the CPU all the "
    "same; /v1/models says why.",
    multiprocess_mode="livemax",
)
OFFLINE = Gauge(
    "vitrine_offline_accuracy",
    "Test accuracy in the live version's manifest.",
    _MODEL,
    multiprocess_mode="livemax",
)
REFERENCE = Gauge(
    "vitrine_reference_share",
    "Shares of the validation images by class, confidence and ink. A bin is named by its upper "
    "edge, the `le` of the histogram; `above` is its lower edge.",
    (*_MODEL, "of", "bin", "above"),
    multiprocess_mode="livemax",
)


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
        self.decode = Tally(STAGE, "decode", name)
        self.queue = Tally(STAGE, "queue", name)
        self.infer = Tally(STAGE, "infer", name)
        self.sizes = Tally(BATCH, name)
        self.confidence = Tally(CONFIDENCE, name, version)
        self.ink = Tally(INK, name, version)
        # Every series exists, at 0, from the moment the model is loaded.
        self._classes = [PREDICTIONS.labels(name, version, label) for label in manifest.classes]
        self._decisions = {word: DECIDED.labels(name, version, word) for word in DECISIONS}
        self._expected = EXPECTED.labels(name, version)
        self._predicted = [0] * len(self._classes)
        self._decided = dict.fromkeys(DECISIONS, 0)
        self._confident = 0.0
        self._rows = 0  # so far, to look at every eighth
        self._queue = QUEUE.labels(name)
        self._uncounted: list[Outputs] = []
        self._uncounted_rows = 0

    def batch(self, pixels: NDArray[np.uint8], ran_s: float) -> None:
        """A run of N rows, uint8[N, ...], took `ran_s` seconds."""
        rows = len(pixels)
        self.infer.observe(ran_s)
        self.sizes.observe(rows)
        # A sum over pixels is 2 us a row: one row in eight tells a drift as well.
        for value in ink(pixels[-self._rows % INK_EVERY :: INK_EVERY]).tolist():
            self.ink.observe(value)
        self._rows += rows

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
        """Images were classified, one a row: counted with many others, at the latest by `flush`."""
        self._uncounted.append(outputs)
        self._uncounted_rows += len(outputs.probabilities)
        if self._uncounted_rows > MAX_UNCOUNTED:
            self._count()

    def _count(self) -> None:
        """What `predicted` does for one image, for all that were kept."""
        if not self._uncounted:
            return
        kept, self._uncounted, self._uncounted_rows = self._uncounted, [], 0
        probabilities = np.concatenate([outputs.probabilities for outputs in kept])
        energies = [outputs.energy for outputs in kept if outputs.energy is not None]
        confidences = probabilities.max(1).astype(np.float64)
        classes = np.bincount(probabilities.argmax(1), minlength=len(self._predicted))
        for index, count in enumerate(classes.tolist()):
            self._predicted[index] += count
        level = np.concatenate(energies) if energies else None
        for word, count in decide_each(self.manifest, confidences, level).items():
            self._decided[word] += count
        self._confident += float(confidences.sum())
        self.confidence.observe_each(confidences)

    def live(self, answers: bool) -> None:
        """This version answers, or no longer does, on this worker."""
        name, version, provider = self._labels
        LIVE.labels(name, version, provider).set(answers)
        accuracy = float(self.manifest.test.get("accuracy", 0.0))
        OFFLINE.labels(name, version).set(accuracy if answers else 0.0)
        for of, shares in _references(self.manifest):
            for bin_name, above, share in shares:
                REFERENCE.labels(name, version, of, bin_name, above).set(share if answers else 0.0)

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
        if self._confident:
            self._expected.inc(self._confident)
            self._confident = 0.0
            LAST.labels(self.manifest.name).set(time.time())
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
                tally = self._durations[surface, model] = Tally(DURATION, surface, model)
            tally.observe(seconds)

    def refused(self, model: str, reason: str) -> None:
        """One request was turned away; `reason` is one of our own words."""
        key = (model, reason)
        self._refused[key] = self._refused.get(key, 0) + 1

    def flush(self) -> None:
        """Hand everything to prometheus_client."""
        counts, self._counts = self._counts, {}
        for (surface, model, status), count in counts.items():
            REQUESTS.labels(surface, model, str(status)).inc(count)
        refused, self._refused = self._refused, {}
        for (model, reason), count in refused.items():
            REFUSED.labels(model, reason).inc(count)
        for tally in self._durations.values():
            tally.flush()
        IN_FLIGHT.set(self.in_flight)


def resident_bytes() -> int:
    """This process's resident memory, in bytes (Linux)."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def registry() -> CollectorRegistry:
    """Where all workers' values are read: their files, or this process's where it has no others.

    Reading it blocks for some milliseconds: not for the event loop.
    """
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not folder:
        return REGISTRY
    _bury_the_dead(Path(folder))
    found = CollectorRegistry(support_collectors_without_names=True)
    MultiProcessCollector(found)  # type: ignore[no-untyped-call]
    return found


def expose(extra: list[Collector]) -> bytes:
    """The text of /metrics: all workers' values, and what the `extra` collectors read now.

    Blocks for some milliseconds: not for the event loop.
    """
    text = generate_latest(registry())
    if extra:
        beside = CollectorRegistry(support_collectors_without_names=True)
        for collector in extra:
            beside.register(collector)
        text += generate_latest(beside)
    return text


def _bury_the_dead(folder: Path) -> None:
    """Drop the gauges of workers that are gone; their counters stay, so that totals never fall."""
    for pid in {path.stem.rpartition("_")[2] for path in folder.glob("gauge_live*_*.db")}:
        if not Path(f"/proc/{pid}").exists():
            with contextlib.suppress(FileNotFoundError):  # another worker was quicker
                mark_process_dead(int(pid), str(folder))  # type: ignore[no-untyped-call]


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
