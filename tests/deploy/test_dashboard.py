"""Every query of the dashboard, against a real Prometheus that scraped a real, busy server."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.prometheus import Prometheus, prometheus
from tests.serving import png, serving

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/vitrine.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
VARIABLES = {"$model": ".+", "$source": ".+", "$__rate_interval": "15s"}


@dataclass(frozen=True)
class Watched:
    """A Prometheus, and what it should have seen: (source, true, predicted) -> labels."""

    prometheus: Prometheus
    labels: Counter[tuple[str, str, str]]
    predictions: int


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    with (
        serving(folder) as server,
        prometheus(folder / "prometheus", server.url.removeprefix("http://")) as watching,
    ):
        before = watching.wait("count(vitrine_feedback_total{model='toy'})")
        assert before == {(): 8}
        labels: Counter[tuple[str, str, str]] = Counter()
        with ThreadPoolExecutor(4) as pool:
            for seed in range(2):  # in two spells, so that every window sees it grow
                for part in pool.map(_load, [server.url] * 4, range(seed * 4, seed * 4 + 4)):
                    labels += part
                watching.wait(f"sum(vitrine_predictions_total) == {sum(labels.values())}")
        refused = httpx.post(
            f"{server.url}/v1/classify/light", content=bytes(17_000_000), timeout=60
        )
        assert refused.status_code == 413
        watching.wait("vitrine_refused_total")
        yield Watched(watching, labels, sum(labels.values()))


def _load(url: str, seed: int) -> Counter[tuple[str, str, str]]:
    """Fifty images and their labels."""
    numbers = random.Random(seed)
    found: Counter[tuple[str, str, str]] = Counter()
    with httpx.Client(base_url=url, timeout=60) as client:
        for _ in range(50):
            true, source = numbers.choice(("bright", "dark")), numbers.choice(("user", "audit"))
            level = numbers.randrange(128, 256) if true == "bright" else numbers.randrange(140)
            answer = client.post("/v1/classify/light?preprocess=raw", content=png(level))
            prediction = answer.json()["predictions"][0]
            sent = {"id": prediction["id"], "label": true, "source": source}
            assert client.post("/v1/feedback", json=sent).status_code == 200
            found[source, true, prediction["label"]] += 1
    return found


def test_totals_in_prometheus_are_those_computed_from_the_answers(watched: Watched) -> None:
    expression = (
        "max by (source, true_class, predicted_class) (vitrine_feedback_total{model='toy'}) > 0"
    )
    expected = {
        (("predicted_class", predicted), ("source", source), ("true_class", true)): count
        for (source, true, predicted), count in watched.labels.items()
    }
    watched.prometheus.wait(expression, lambda found: found == expected)
    assert watched.prometheus.value("sum(vitrine_predictions_total)") == watched.predictions


def test_the_windowed_accuracy_agrees_with_the_answers(watched: Watched) -> None:
    for source in ("user", "audit"):
        labels = {key: n for key, n in watched.labels.items() if key[0] == source}
        accuracy = sum(n for (_, true, said), n in labels.items() if true == said)
        expected = accuracy / sum(labels.values())
        rule = f'vitrine:accuracy:ratio24h{{source="{source}"}}'
        (found,) = watched.prometheus.wait(f"last_over_time({rule}[15m])").values()
        assert found == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("expression", QUERIES)
def test_every_query_of_the_dashboard_has_data(watched: Watched, expression: str) -> None:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    # At any time since the load began: a busy machine may take longer to ask than a window lasts.
    watched.prometheus.wait(f"max_over_time(({expression})[15m:2s])")


def test_panels_do_not_overlap_and_have_names_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_what_the_dashboard_and_the_alerts_read_is_recorded() -> None:
    rules = ROOT / "deploy/prometheus/rules"
    recorded = {
        rule["record"]
        for group in yaml.safe_load((rules / "recording.yml").read_text())["groups"]
        for rule in group["rules"]
    }
    text = json.dumps(DASHBOARD) + (rules / "alerts.yml").read_text()
    assert set(re.findall(r"\bvitrine:\w+:\w+", text)) <= recorded


def test_compose_pins_each_image_and_mounts_what_exists() -> None:
    services: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert services.keys() == {"vitrine", "prometheus", "grafana"}
    for service in services.values():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (ROOT / source).is_dir()
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
