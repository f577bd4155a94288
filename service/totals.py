"""The ledger's totals as Prometheus metrics, read anew at each scrape.

They are the same on every worker and replica, so queries take their `max`, never their `sum`. A
scrape that finds no ledger leaves them out: an old value would look like a counter that fell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from artifacts.manifest import Manifest
from service.ledger import SOURCES, Ledger, Unavailable

_LABELS = ("model", "version", "source", "true_class", "predicted_class")


class Totals(Collector):
    """Labels by model, version, source, true and predicted class.

    `find` names the classes of versions that are no longer live.
    """

    def __init__(self, ledger: Ledger, find: Callable[[str], Manifest | None]) -> None:
        self._live: list[Manifest] = []
        self._ledger = ledger
        self._find = find

    def show(self, live: list[Manifest]) -> None:
        """These are live now: every combination of theirs is there, from 0."""
        self._live = live

    def collect(self) -> Iterable[Metric]:
        """Called by prometheus_client, on the thread of a scrape."""
        available = GaugeMetricFamily("vitrine_ledger_up", "1 when the ledger can be read.")
        family = CounterMetricFamily(
            "vitrine_feedback", "True labels received; of all workers and replicas.", labels=_LABELS
        )
        try:
            totals = self._ledger.totals()
        except Unavailable:
            available.add_metric([], 0)
            return [available]
        available.add_metric([], 1)
        counts = {
            (total.model, total.version, total.source, total.true_class, total.predicted_class): (
                total.count
            )
            for total in totals
        }
        live = self._live
        manifests = {manifest.version: manifest for manifest in live}
        for manifest in live:
            classes = range(len(manifest.classes))
            for source in SOURCES:
                for true in classes:
                    for predicted in classes:
                        key = (manifest.name, manifest.version, source, true, predicted)
                        counts.setdefault(key, 0)
        for (model, version, source, true, predicted), count in counts.items():
            known = manifests.get(version) or self._find(version)
            name = str if known is None else known.classes.__getitem__
            family.add_metric([model, version, source, name(true), name(predicted)], count)
        return [available, family]
