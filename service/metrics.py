"""Every Prometheus metric, declared once, and how all workers' values are read.

With several workers prometheus_client keeps its values in files (PROMETHEUS_MULTIPROC_DIR, set by
BentoML before this is imported). A call of it costs 1 to 2 us; the hot path counts in
service.meters instead.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

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

from artifacts.reference import CONFIDENCE_EDGES, INK_EDGES
from service.workers import lives

FLUSH_S = 0.25
CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()
SECONDS = (
    *(0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01),
    *(0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
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
RUN = Counter(
    "vitrine_request_run_seconds",
    "Time of runs as requests saw it: of a run of eight requests, eight times its length.",
    ("model",),
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
    "Mean brightness, 0..1, of the pixels a model saw; of one run in eight.",
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
        if not lives(pid):
            with contextlib.suppress(FileNotFoundError):  # another worker was quicker
                mark_process_dead(int(pid), str(folder))  # type: ignore[no-untyped-call]
