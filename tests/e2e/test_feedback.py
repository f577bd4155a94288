"""The path of a label through a real server with two workers, on both databases."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.database import LEDGER_FILE
from tests.postgres import postgres
from tests.serving import Server, png, serving

CLASSIFY = "/v1/classify/light?preprocess=raw"
NAMES = ("bright", "dark")
PATIENCE_S = 60.0  # a busy machine is no failure


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    environment = {}
    if request.param == "postgresql":
        environment["VITRINE_LEDGER_URL"] = request.getfixturevalue("cluster").database()
    with serving(tmp_path_factory.mktemp(request.param), **environment) as running:
        yield running


get = partial(httpx.get, timeout=PATIENCE_S)
post = partial(httpx.post, timeout=PATIENCE_S)


def totals(server: Server) -> Counter[tuple[str, str, str]]:
    """The feedback totals in /metrics: (source, true, predicted) -> labels, zeros left out."""
    found: Counter[tuple[str, str, str]] = Counter()
    for family in text_string_to_metric_families(get(f"{server.url}/metrics").text):
        for sample in family.samples:
            if sample.name == "vitrine_feedback_total" and sample.value:
                labels = sample.labels
                key = (labels["source"], labels["true_class"], labels["predicted_class"])
                found[key] = int(sample.value)
    return found


def insist(client: httpx.Client, url: str, **content: Any) -> httpx.Response:
    """POST until answered, as clients should: again when a connection dies with its worker, and
    after a moment when the ledger waits too long for a lock that the worker held (503).
    """
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            answer = client.post(url, **content)
            if answer.status_code != 503 or time.monotonic() > until:
                return answer
            time.sleep(float(answer.headers["Retry-After"]))
        except httpx.TransportError:
            continue


def classified(server: Server, level: int) -> dict[str, Any]:
    answer = post(server.url + CLASSIFY, content=png(level))
    assert answer.status_code == 200, answer.text
    prediction: dict[str, Any] = answer.json()["predictions"][0]
    return prediction


def test_totals_are_exact_though_a_worker_is_killed(server: Server) -> None:
    images = 300
    half = threading.Semaphore(0)
    numbers = random.Random(7)
    plan = [(numbers.randrange(256), numbers.choice(NAMES)) for _ in range(images)]

    def one(level: int, true: str) -> tuple[str, str, str]:
        with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
            answer = insist(client, CLASSIFY, content=png(level)).json()["predictions"][0]
            source = "audit" if level % 4 == 0 else "user"
            sent = {"id": answer["id"], "label": true, "source": source}
            reply = insist(client, "/v1/feedback", json=sent)
            assert reply.status_code == 200, reply.text
            assert reply.json()["correct"] == (answer["label"] == true)
            half.release()
            return source, true, answer["label"]

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(one, *entry) for entry in plan]
        for _ in range(images // 2):
            half.acquire(timeout=60)
        os.kill(server.workers()[0], signal.SIGKILL)
        expected = Counter(answer.result() for answer in answers)
    assert totals(server) == expected

    answer = get(f"{server.url}/v1/models/light/accuracy").json()
    for source in ("user", "audit"):
        found = answer["sources"][source]
        correct = sum(n for (s, true, said), n in expected.items() if s == source and true == said)
        labelled = sum(n for (s, _, _), n in expected.items() if s == source)
        for window in ("hour", "day", "all"):
            assert (found[window]["labelled"], found[window]["correct"]) == (labelled, correct)
        low, high = found["all"]["interval"]
        assert low < found["all"]["accuracy"] == correct / labelled < high
        matrix = [[expected[source, true, said] for said in NAMES] for true in NAMES]
        assert found["all"]["confusion"] == matrix


def test_a_label_is_answered_alike_twice_and_a_contradiction_is_a_conflict(server: Server) -> None:
    before = totals(server)
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
        receipt = classified(server, 250)["id"]
        first = client.post("/v1/feedback", json={"id": receipt, "label": "bright"})
        again = client.post("/v1/feedback", json={"id": receipt, "label": "claro"})
        assert (first.status_code, again.status_code) == (200, 200)
        assert first.json() == again.json()
        other = client.post("/v1/feedback", json={"id": receipt, "label": "dark"})
        assert other.status_code == 409
        assert other.headers["content-type"] == "application/problem+json"
    assert totals(server) - before == {("user", "bright", "bright"): 1}


def test_a_list_is_recorded_but_for_what_is_wrong_in_it(server: Server) -> None:
    before = totals(server)
    one, two = classified(server, 250)["id"], classified(server, 5)["id"]
    sent = [
        {"id": one, "label": "dark", "source": "audit"},
        {"id": two, "label": "no such class"},
        {"id": "A" * 52, "label": "dark"},
        {"id": two, "label": "dark", "source": "hearsay"},
        {"id": two, "label": "dark", "sauce": "audit"},
        "nonsense",
    ]
    answer = post(f"{server.url}/v1/feedback", json=sent)
    assert answer.status_code == 200
    first, *errors = answer.json()["results"]
    assert (first["label"], first["predicted"], first["correct"]) == ("dark", "bright", False)
    assert [entry["error"]["status"] for entry in errors] == [422, 400, 422, 400, 400]
    assert totals(server) - before == {("audit", "dark", "bright"): 1}


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"id": "A" * 52, "label": "dark"}, 400),
        ({"label": "dark"}, 400),
        ([], 422),
        ([{"id": "x", "label": "dark"}] * 1001, 413),
        ([{"id": "x", "label": "dark"}] * 2, 400),
        ("text", 400),
    ],
)
def test_what_cannot_be_recorded_is_a_client_error(
    shared: Server, sent: object, status: int
) -> None:
    answer = post(f"{shared.url}/v1/feedback", json=sent)
    assert answer.status_code == status, answer.text


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that tests share which leave no label behind; its receipts live for a second."""
    folder = tmp_path_factory.mktemp("shared")
    with serving(folder, VITRINE_RECEIPT_DAYS="0.001") as running:
        yield running


def test_every_combination_is_in_metrics_from_zero(shared: Server) -> None:
    text = get(f"{shared.url}/metrics").text
    lines = [line for line in text.splitlines() if "vitrine_feedback_total{" in line]
    lines = [line for line in lines if 'model="toy"' in line]
    assert len(lines) == 2 * 2 * 2
    assert all(line.endswith(" 0.0") for line in lines)
    assert "vitrine_ledger_up 1.0" in text


def test_accuracy_without_labels_is_unknown_and_not_zero(shared: Server) -> None:
    record = get(f"{shared.url}/v1/models/toy/accuracy").json()
    assert record["offline"] == {"count": 100, "accuracy": 0.97, "interval": [0.915, 0.99]}
    for source in ("user", "audit"):
        nothing = record["sources"][source]["all"]
        assert (nothing["labelled"], nothing["accuracy"], nothing["interval"]) == (0, None, None)


@pytest.mark.parametrize(
    ("path", "status"),
    [("nobody/accuracy", 404), ("toy/accuracy?version=0", 404), ("toy/accuracy?when=now", 400)],
)
def test_accuracy_of_what_is_not_there_is_a_client_error(
    shared: Server, path: str, status: int
) -> None:
    assert get(f"{shared.url}/v1/models/{path}").status_code == status


def test_while_the_file_is_locked_predictions_go_on_and_labels_are_refused(
    tmp_path: Path,
) -> None:
    with serving(tmp_path) as server:
        prediction = classified(server, 250)
        sent = {"id": prediction["id"], "label": "bright"}
        with sqlite3.connect(server.state / LEDGER_FILE, isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(post, f"{server.url}/v1/feedback", json=sent)
                while not waiting.done():
                    classified(server, 5)
            refused = waiting.result()
            other.execute("ROLLBACK")
        other.close()
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert post(f"{server.url}/v1/feedback", json=sent).status_code == 200
        assert totals(server) == {("user", "bright", "bright"): 1}
        server.wait_for_metric('vitrine_refused_total{model="",reason="ledger"} 1.0')


def test_while_postgresql_is_stopped_predictions_go_on_and_afterwards_labels_do(
    tmp_path: Path,
) -> None:
    with postgres() as cluster, serving(tmp_path, VITRINE_LEDGER_URL=cluster.database()) as server:
        first, second = classified(server, 250)["id"], classified(server, 5)["id"]
        url = f"{server.url}/v1/feedback"
        assert post(url, json={"id": first, "label": "bright"}).status_code == 200
        cluster.stop()
        assert post(url, json={"id": second, "label": "bright"}).status_code == 503
        accuracy = f"{server.url}/v1/models/light/accuracy"
        assert get(accuracy).status_code == 503
        text = get(f"{server.url}/metrics").text
        assert "vitrine_ledger_up 0.0" in text
        assert "vitrine_feedback_total{" not in text  # no value at all, rather than an old one
        classified(server, 5)
        cluster.start()
        assert post(url, json={"id": second, "label": "bright"}).status_code == 200
        assert totals(server) == {("user", "bright", "bright"): 1, ("user", "bright", "dark"): 1}
