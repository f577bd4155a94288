"""What the Open Inference Protocol calls statistics, read from the metrics of all workers.

A client's questions reach any worker, so each must answer for all of them: perf_analyzer takes the
difference of two answers.
"""

from __future__ import annotations

from typing import Any

from service import metrics

_SURFACES = frozenset({"v1", "v2", "typed"})
Counted = dict[tuple[str, ...], float]  # (model, of what) -> its sum


def collect() -> Counted:
    """Every model's counts now. Blocks for some milliseconds: not for the event loop."""
    counted: Counted = {}
    for family in metrics.registry().collect():
        for sample in family.samples:
            labels = sample.labels
            model = labels.get("model")
            if not model:
                continue
            if labels.get("surface", "v2") not in _SURFACES:
                continue
            what = sample.name
            if "stage" in labels:
                what = f"{what} {labels['stage']}"
            elif sample.name == "vitrine_requests_total" and labels["status"] >= "400":
                what = "failed"
            key = (model, what)
            counted[key] = (
                max(counted.get(key, 0.0), sample.value)
                if what == _LAST
                else (counted.get(key, 0.0) + sample.value)
            )
    return counted


_LAST = "vitrine_last_prediction_timestamp_seconds"


def numbered(version: str) -> str:
    """A version as a decimal number: perf_analyzer takes versions in statistics for integers."""
    return str(int(version, 16))


def statistics(counted: Counted, model: str, version: str) -> dict[str, Any]:
    """The protocol's record for one model.

    Durations are sums over the requests that were answered, and all count these: perf_analyzer
    divides one by the other, and ends itself where the counts differ. `batch_stats` stays empty,
    since it would hold one for each size there ever was: see the metric vitrine_batch_size_rows.
    """

    def count(name: str) -> int:
        return round(counted.get((model, name), 0.0))

    answered = count("vitrine_request_duration_seconds_count")

    def duration(name: str) -> dict[str, int]:
        return {"count": answered, "ns": round(counted.get((model, name), 0.0) * 1e9)}

    none = {"count": 0, "ns": 0}
    stage = "vitrine_stage_duration_seconds_sum"
    return {
        "name": model,
        "version": numbered(version),
        "last_inference": round(counted.get((model, _LAST), 0.0) * 1000),
        "inference_count": count("vitrine_batch_size_rows_sum"),
        "execution_count": count("vitrine_batch_size_rows_count"),
        "inference_stats": {
            "success": duration("vitrine_request_duration_seconds_sum"),
            "fail": {"count": count("failed"), "ns": 0},
            "queue": duration(f"{stage} queue"),
            "compute_input": duration(f"{stage} decode"),
            "compute_infer": duration("vitrine_request_run_seconds_total"),
            "compute_output": {"count": answered, "ns": 0},
            "cache_hit": none,
            "cache_miss": none,
        },
        "batch_stats": [],
    }
