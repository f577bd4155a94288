"""Counting in lists comes to the same as counting in prometheus_client, in one process and many."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry, Histogram

from artifacts.decision import decide
from artifacts.model import Outputs
from service.meters import MAX_KEPT, ModelMeter, Tally
from service.metrics import SECONDS, resident_bytes
from tests import toy

ROOT = Path(__file__).parents[2]


def samples(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    return {
        (sample.name, str(sample.labels)): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(st.one_of(st.floats(0, 3), st.sampled_from(SECONDS)), max_size=60), st.integers(0))
def test_a_flushed_tally_equals_observing(values: list[float], cut: int) -> None:
    one, other = CollectorRegistry(), CollectorRegistry()
    observed = Histogram("h", "Help.", ("of",), buckets=SECONDS, registry=one).labels("x")
    tally = Tally(Histogram("h", "Help.", ("of",), buckets=SECONDS, registry=other), "x")
    for at, value in enumerate(values):
        observed.observe(value)
        tally.observe(value)
        if at == cut % 60:
            tally.flush()
    tally.flush()
    tally.flush()
    assert samples(other) == pytest.approx(samples(one))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.5, 0.6, 0.75, 0.9, 0.99, 1.0]).map(np.float32),
            st.booleans(),
            st.sampled_from([-5.0, -0.1, -0.05, 3.0]).map(np.float32),
        ),
        max_size=20,
    ),
    st.integers(1, 7),
)
def test_rows_counted_together_come_to_the_same_as_one_by_one(
    rows: list[tuple[np.float32, bool, np.float32]], cut: int
) -> None:
    alone = ModelMeter(toy.manifest("alone"), "cpu")
    together = ModelMeter(toy.manifest("together"), "cpu")
    before = counted("alone"), counted("together")
    for confidence, second, energy in rows:
        decision = decide(alone.manifest, float(confidence), float(energy))
        alone.predicted(int(second and confidence > 0.5), float(confidence), decision)
    probabilities = np.array(
        [(1 - p, p) if second and p > 0.5 else (p, 1 - p) for p, second, _ in rows], np.float32
    ).reshape(-1, 2)
    energies = np.array([energy for *_, energy in rows], np.float32)
    for begin in range(0, len(rows), cut):
        part = slice(begin, begin + cut)
        together.answered(Outputs(probabilities, energies)[part])
    alone.flush()
    together.flush()
    changes = [
        {key: value - was.get(key, 0.0) for key, value in counted(name).items()}
        for name, was in zip(("alone", "together"), before, strict=True)
    ]
    assert changes[1] == pytest.approx(changes[0])


def test_more_rows_than_are_kept_are_counted_at_once() -> None:
    meter = ModelMeter(toy.manifest("many"), "cpu")
    before = counted("many").get(("vitrine_confidence_count", "{'version': ''}"), 0.0)
    for rows in (MAX_KEPT - 1, 1, 1, MAX_KEPT + 1, 5):
        meter.answered(Outputs(np.full((rows, 2), 0.5, np.float32), np.zeros(rows, np.float32)))
    meter.flush()
    after = counted("many")["vitrine_confidence_count", "{'version': ''}"]
    assert after - before == 2 * MAX_KEPT + 7


def counted(model: str) -> dict[tuple[str, str], float]:
    """Every count of a model so far, without its name."""
    return {
        (sample.name, str({k: v for k, v in sample.labels.items() if k != "model"})): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.labels.get("model") == model
        and not sample.name.endswith(("_created", "_timestamp_seconds"))
    }


def test_resident_memory_is_that_of_this_process() -> None:
    status = Path("/proc/self/status").read_text()
    kilobytes = int(status.partition("VmRSS:")[2].split()[0])
    assert resident_bytes() == pytest.approx(kilobytes * 1024, rel=0.1)


WORKER = """
from artifacts.store import Store
from service.meters import ModelMeter, Requests
from service.metrics import READY, IN_FLIGHT
from tests import toy
requests = Requests()
for _ in range(3):
    requests.answered("v1", "toy", 200, 0.001)
requests.answered("v1", "toy", 404, 0.001)
requests.refused("toy", "queue")
requests.in_flight = 2
requests.flush()
READY.set(1)
meter = ModelMeter(toy.manifest(version="0" * 12), "cpu")
meter.live(True)
meter.batch(toy.white(4), 2, 0.002)
meter.predicted(0, 0.9, "accept")
meter.flush(5)
"""
SCRAPE = "from service.metrics import expose; print(expose([]).decode())"


def run(code: str, folder: Path, then: str = "") -> str:
    """Run a worker of this multiprocess folder to its end; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code + "\n" + then],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


def value(text: str, name: str, **labels: str) -> float | None:
    """The one sample of that name with these labels; None where there is none."""
    found: list[float] = [
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith((name + "{", name + " "))
        and all(f'{key}="{wanted}"' in line for key, wanted in labels.items())
    ]
    assert len(found) <= 1, found
    return found[0] if found else None


def test_a_dead_workers_counts_stay_and_its_gauges_go(tmp_path: Path) -> None:
    run(WORKER, tmp_path)  # dead when the next one is scraped
    text = run(WORKER, tmp_path, SCRAPE)
    of: dict[str, Any] = {"surface": "v1", "model": "toy"}
    assert value(text, "vitrine_requests_total", status="200", **of) == 6
    assert value(text, "vitrine_requests_total", status="404", **of) == 2
    assert value(text, "vitrine_request_duration_seconds_count", **of) == 6
    assert value(text, "vitrine_refused_total", reason="queue") == 2
    assert value(text, "vitrine_batch_size_rows_sum", model="toy") == 8
    assert value(text, "vitrine_request_run_seconds_total", model="toy") == pytest.approx(0.008)
    assert value(text, "vitrine_predictions_total", **{"class": "bright"}) == 2
    assert value(text, "vitrine_predictions_total", **{"class": "dark"}) == 0
    assert value(text, "vitrine_ink_count", model="toy") == 8  # each worker's first run of eight
    assert value(text, "vitrine_workers_ready") == 1
    assert value(text, "vitrine_in_flight_requests") == 2
    assert value(text, "vitrine_queue_rows", model="toy") == 5
    assert value(text, "vitrine_live_version", model="toy", provider="cpu") == 1
    assert value(text, "vitrine_offline_accuracy", model="toy") == 0.97
    text = run(SCRAPE, tmp_path)  # now both are dead
    assert value(text, "vitrine_requests_total", status="200", **of) == 6
    assert value(text, "vitrine_workers_ready") in (None, 0)
    assert value(text, "vitrine_live_version", model="toy") is None


def test_a_version_that_was_replaced_is_zero(tmp_path: Path) -> None:
    text = run(WORKER, tmp_path, "meter.live(False)\n" + SCRAPE)
    assert value(text, "vitrine_live_version", model="toy") == 0
    assert value(text, "vitrine_offline_accuracy", model="toy") == 0
    assert toy.manifest().name == "toy"
