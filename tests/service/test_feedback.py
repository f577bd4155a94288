"""Feedback in process: each label's answer, what it adds up to, and what it leaves in /metrics."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from artifacts.interval import wilson
from artifacts.store import Store
from service.accuracy import summarise
from service.dispatch import Dispatch
from service.http import Receive, Scope, Send
from service.ledger import Total
from service.process import Process
from service.settings import Settings
from tests import toy
from tests.serving import png

SECRET = "a secret of these tests"


async def no_bento(scope: Scope, _receive: Receive, _send: Send) -> None:
    """BentoML's part of the application, which these tests do not use."""
    raise AssertionError(scope["path"])


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[Process]:
    """A worker's insides, with the toy loaded."""
    store = Store(tmp_path)
    published = toy.publish(store)
    store.activate(published.name, published.version)
    store.point(published.task, published.name)
    made = Process(Settings(state=tmp_path, secret=SECRET, receipt_days=1))
    await made.models.start()
    yield made
    await made.stop()


@pytest.fixture
async def client(process: Process) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(Dispatch(process, no_bento))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://vitrine") as made:
        yield made


async def receipt(client: httpx.AsyncClient, level: int = 250) -> str:
    answer = await client.post(
        "/v1/classify/light?preprocess=raw",
        content=png(level),
        headers={"content-type": "image/png"},
    )
    return str(answer.json()["predictions"][0]["id"])


def live(process: Process) -> str:
    answering = process.models.get("toy")
    assert answering is not None
    return answering.version


async def send(client: httpx.AsyncClient, **label: Any) -> httpx.Response:
    return await client.post("/v1/feedback", json=label)


async def test_the_answer_says_what_was_predicted_and_what_is_true(
    client: httpx.AsyncClient, process: Process
) -> None:
    token = await receipt(client)
    answer = await send(client, id=token, label="dark", source="audit")
    assert answer.status_code == 200
    assert answer.json() == {
        "id": token,
        "model": "toy",
        "version": live(process),
        "label": "dark",
        "predicted": "bright",
        "correct": False,
        "source": "audit",
    }


async def test_a_label_may_be_given_in_any_language_of_the_model(client: httpx.AsyncClient) -> None:
    answer = await send(client, id=await receipt(client), label="escuro")
    assert answer.json()["label"] == "dark"


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"label": "7"}, 422, "label is none of bright, dark"),
        ({"label": None}, 422, "label is none of"),
        ({"label": ["dark"]}, 422, "label is none of"),
        ({"source": "hearsay"}, 422, "source is not one of user, audit"),
        ({"source": ["user"]}, 422, "source is not one of"),
        ({"id": "A" * 52}, 400, "id is not a receipt of this service"),
        ({"id": 7}, 400, "id is missing or no text"),
        ({"sauce": "user"}, 400, "unknown field 'sauce'"),
    ],
)
async def test_what_is_wrong_with_a_label_is_said(
    client: httpx.AsyncClient, change: dict[str, Any], status: int, says: str
) -> None:
    answer = await send(client, **({"id": await receipt(client), "label": "dark"} | change))
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    )
    assert says in answer.json()["detail"]


async def test_an_expired_receipt_is_gone(client: httpx.AsyncClient, process: Process) -> None:
    version = live(process)
    old = process.signer.sign(version, 0, 0.9, time.time() - 2 * 86400)
    answer = await send(client, id=old, label="dark")
    assert (answer.status_code, answer.json()["detail"]) == (
        410,
        "the receipt is older than 1 days",
    )


async def test_a_receipt_of_a_version_that_is_not_kept_is_gone(
    client: httpx.AsyncClient, process: Process
) -> None:
    unknown = process.signer.sign("0" * 12, 0, 0.9, time.time())
    assert (await send(client, id=unknown, label="dark")).status_code == 410


async def test_a_receipt_of_a_version_that_was_replaced_is_still_answered(
    client: httpx.AsyncClient, process: Process
) -> None:
    token = await receipt(client)
    newer = toy.publish(process.store, constant=1)
    process.store.activate("toy", newer.version)
    await process.models._look()
    assert live(process) == newer.version
    answer = await send(client, id=token, label="dark")
    assert answer.status_code == 200
    old = answer.json()["version"]
    assert old != newer.version
    text = (await client.get("/metrics")).text
    assert f'source="user",true_class="dark",version="{old}"}} 1.0' in text
    now = (await client.get("/v1/models/light/accuracy")).json()
    then = (await client.get(f"/v1/models/light/accuracy?version={old}")).json()
    counted = [record["sources"]["user"]["all"]["labelled"] for record in (now, then)]
    assert counted == [0, 1]


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"", 400), (b"[]", 422), (b"7", 400)])
async def test_a_body_without_labels_is_a_client_error(
    client: httpx.AsyncClient, body: bytes, status: int
) -> None:
    assert (await client.post("/v1/feedback", content=body)).status_code == status


async def test_a_list_that_fails_for_one_reason_has_that_status(client: httpx.AsyncClient) -> None:
    token = await receipt(client)
    alike = await client.post("/v1/feedback", json=[{"id": token, "label": "7"}] * 3)
    assert alike.status_code == 422
    mixed = [{"id": token, "label": "7"}, {"id": "x", "label": "dark"}]
    assert (await client.post("/v1/feedback", json=mixed)).status_code == 422
    await send(client, id=token, label="dark")
    other = await client.post("/v1/feedback", json=[{"id": token, "label": "bright"}])
    assert other.status_code == 409


async def test_without_a_state_folder_labels_are_refused_and_predictions_are_not(
    tmp_path: Path,
) -> None:
    made = Process(Settings(state=None, secret=SECRET))
    transport = httpx.ASGITransport(Dispatch(made, no_bento))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://vitrine") as client:
        store = Store(tmp_path)
        version = toy.publish(store).version
        made.feedback._versions._store = store
        token = made.signer.sign(version, 0, 0.9, time.time())
        answer = await send(client, id=token, label="dark")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert "vitrine_ledger_up 0.0" in (await client.get("/metrics")).text
    await made.stop()


async def test_accuracy_counts_by_source_and_class(client: httpx.AsyncClient) -> None:
    for level, label in ((250, "bright"), (250, "dark"), (5, "dark"), (5, "dark")):
        await send(client, id=await receipt(client, level), label=label, source="audit")
    record = (await client.get("/v1/models/light/accuracy")).json()
    audit = record["sources"]["audit"]["hour"]
    assert (audit["labelled"], audit["correct"], audit["accuracy"]) == (4, 3, 0.75)
    assert audit["interval"] == list(wilson(3, 4))
    assert audit["confusion"] == [[1, 0], [1, 2]]
    bright, dark = audit["classes"]
    assert (bright["recall"], bright["precision"]) == (1.0, 0.5)
    assert (dark["recall"], dark["precision"]) == (pytest.approx(2 / 3), 1.0)
    assert record["sources"]["user"]["hour"]["labelled"] == 0
    assert (await client.get("/v1/models/nobody/accuracy")).status_code == 404


# Newcombe 1998, table I, method 3, has 81/263, 15/148 and 0/20.
@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (0, 0, 0.0, 1.0)],
)
def test_the_interval_is_wilsons(correct: int, count: int, low: float, high: float) -> None:
    assert wilson(correct, count) == pytest.approx((low, high), abs=5e-5)


def test_a_summary_of_nothing_knows_nothing() -> None:
    empty = summarise([], ("a", "b"))
    assert (empty["labelled"], empty["accuracy"], empty["interval"]) == (0, None, None)
    assert [entry["recall"] for entry in empty["classes"]] == [None, None]


def test_a_summary_adds_up_whatever_is_of_one_kind() -> None:
    totals = [Total("m", "v", source, 1, 0, 2) for source in ("user", "audit")]
    assert summarise(totals, ("a", "b"))["confusion"] == [[0, 0], [4, 0]]
