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


def statistics(counted: Counted, model: str, version: str) -> dict[str, Any]:
    """The protocol's record for one model.

    A run serves many requests here, so `compute_infer` counts runs. The sizes of runs are in the
    metric vitrine_batch_size_rows; `batch_stats` stays empty, since it would hold one for each
    size there ever was.
    """

    def count(name: str) -> int:
        return round(counted.get((model, name), 0.0))

    def duration(name: str, stage: str = "") -> dict[str, int]:
        seconds = counted.get((model, f"{name}_sum{stage}"), 0.0)
        return {"count": count(f"{name}_count{stage}"), "ns": round(seconds * 1e9)}

    success = duration("vitrine_request_duration_seconds")
    none = {"count": 0, "ns": 0}
    stage = "vitrine_stage_duration_seconds"
    return {
        "name": model,
        "version": version,
        "last_inference": round(counted.get((model, _LAST), 0.0) * 1000),
        "inference_count": count("vitrine_batch_size_rows_sum"),
        "execution_count": count("vitrine_batch_size_rows_count"),
        "inference_stats": {
            "success": success,
            "fail": {"count": count("failed"), "ns": 0},
            "queue": duration(stage, " queue"),
            "compute_input": duration(stage, " decode"),
            "compute_infer": duration(stage, " infer"),
            "compute_output": {"count": success["count"], "ns": 0},
            "cache_hit": none,
            "cache_miss": none,
        },
        "batch_stats": [],
    }
