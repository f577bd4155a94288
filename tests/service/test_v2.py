"""The Open Inference Protocol through the whole application, in this process."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from artifacts.store import Store
from service.decoding import INLINE_PARSED
from tests import toy
from tests.asgi import Inside, inside
from tests.serving import png

ADMIN = "an-admin-key-for-tests"
AS_ADMIN = {"authorization": f"Bearer {ADMIN}"}
LENGTH = "inference-header-content-length"
PIXELS = toy.SIDE * toy.SIDE


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Inside]:
    async with inside(tmp_path, alone=True, admin_keys=(ADMIN,)) as started:
        yield started


@pytest.fixture
def client(served: Inside) -> httpx.AsyncClient:
    return served.client


def asked(rows: np.ndarray[Any, Any], **record: Any) -> dict[str, Any]:
    images: dict[str, Any] = {"name": "images", "datatype": "UINT8", "shape": list(rows.shape)}
    return {"inputs": [images | {"data": rows.ravel().tolist()}], **record}


def binary(rows: np.ndarray[Any, Any], **record: Any) -> tuple[bytes, dict[str, str]]:
    """A binary request's body and headers."""
    images: dict[str, Any] = {"name": "images", "datatype": "UINT8", "shape": list(rows.shape)}
    images["parameters"] = {"binary_data_size": rows.nbytes}
    head = orjson.dumps({"inputs": [images], **record})
    return head + rows.tobytes(), {LENGTH: str(len(head))}


def outputs(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {output["name"]: output for output in answer.json()["outputs"]}


def both() -> np.ndarray[Any, Any]:
    return np.concatenate([toy.white(), toy.black()])


async def test_the_server_says_what_it_is(client: httpx.AsyncClient) -> None:
    for path in ("/v2", "/v2/"):
        record = (await client.get(path)).json()
        assert record["name"] == "vitrine"
        assert {"binary_tensor_data", "classification", "statistics"} <= {*record["extensions"]}
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    assert (await client.get("/v2/health/ready")).json() == {"ready": True}


async def test_a_task_is_asked_and_its_model_answers(client: httpx.AsyncClient) -> None:
    for name in ("light", "toy"):
        record = (await client.get(f"/v2/models/{name}")).json()
        assert record["name"] == "toy"
        assert record["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 28, 28]}]
        answer = await client.post(f"/v2/models/{name}/infer", json=asked(both(), id="mine"))
        assert answer.json()["model_name"] == "toy"
        assert answer.json()["id"] == "mine"
        assert outputs(answer)["label"]["data"] == ["bright", "dark"]


async def test_only_the_live_version_is_served(client: httpx.AsyncClient) -> None:
    (version,) = (await client.get("/v2/models/toy")).json()["versions"]
    for place in ("", "/ready", "/config", "/stats"):
        assert (await client.get(f"/v2/models/toy/versions/{version}{place}")).status_code == 200
        other = await client.get(f"/v2/models/toy/versions/000000000000{place}")
        assert other.status_code == 404
        assert version in other.json()["error"]
    url = f"/v2/models/toy/versions/{version}/infer"
    assert (await client.post(url, json=asked(toy.white()))).status_code == 200
    url = "/v2/models/toy/versions/000000000000/infer"
    assert (await client.post(url, json=asked(toy.white()))).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/v2/nothing",
        "/v2/models",
        "/v2/models/none",
        "/v2/models/toy/nothing",
        "/v2/models/a/b/c/d",
    ],
)
async def test_what_is_not_there_is_an_error_of_the_protocol(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert list(answer.json()) == ["error"]


async def test_a_mistake_is_400_and_says_which(client: httpx.AsyncClient) -> None:
    record = asked(toy.white())
    record["inputs"][0]["name"] = "pixels"
    answer = await client.post("/v2/models/toy/infer", json=record)
    assert answer.status_code == 400
    assert answer.json() == {"error": "the input's name is 'pixels', expected 'images'"}


@pytest.mark.parametrize("rows", [1, 2, 70])
async def test_binary_tensors_both_ways(client: httpx.AsyncClient, rows: int) -> None:
    pixels = np.random.default_rng(rows).integers(0, 256, (rows, 28, 28)).astype(np.uint8)
    wanted = [{"name": name, "parameters": {"binary_data": True}} for name in ("probabilities",)]
    body, headers = binary(pixels, outputs=wanted)
    for _ in range(2):  # the second time from what is remembered
        answer = await client.post("/v2/models/toy/infer", content=body, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/octet-stream"
        tail = answer.content[int(answer.headers[LENGTH]) :]
        found = np.frombuffer(tail, np.float32).reshape(rows, 2)
        assert (found.argmax(1) == (pixels.mean((1, 2)) < 127.5)).all()
    as_json = outputs(await client.post("/v2/models/toy/infer", json=asked(pixels)))
    assert np.allclose(as_json["probabilities"]["data"], found.ravel())


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_the_header_length_of_a_compressed_body_counts_what_it_inflates_to(
    client: httpx.AsyncClient, encoding: str
) -> None:
    body, headers = binary(both())
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    headers["content-encoding"] = encoding
    answer = await client.post("/v2/models/toy/infer", content=packed, headers=headers)
    assert outputs(answer)["label"]["data"] == ["bright", "dark"]


@pytest.mark.parametrize("length", ["x", "-1", "99999", "1e3", "", "1" * 20])
async def test_a_wrong_header_length_is_400(client: httpx.AsyncClient, length: str) -> None:
    body, _ = binary(toy.white())
    answer = await client.post("/v2/models/toy/infer", content=body, headers={LENGTH: length})
    assert answer.status_code == 400


async def test_a_large_tensor_in_json_is_read_beside_the_loop(client: httpx.AsyncClient) -> None:
    rows = np.concatenate([both()] * 32)
    record = asked(rows)
    assert len(orjson.dumps(record)) > INLINE_PARSED
    answer = await client.post("/v2/models/light/infer", json=record)
    assert outputs(answer)["label"]["data"] == ["bright", "dark"] * 32
    record["inputs"][0]["data"][5] = 256
    answer = await client.post("/v2/models/light/infer", json=record)
    assert answer.status_code == 400


async def test_a_bare_tensor_is_answered_in_binary(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v2/models/toy/infer", content=both().tobytes(), headers={LENGTH: "0"}
    )
    assert answer.status_code == 200
    head = orjson.loads(answer.content[: int(answer.headers[LENGTH])])
    assert head["outputs"][0]["shape"] == [2, 2]
    assert all("binary_data_size" in output["parameters"] for output in head["outputs"])


async def test_encoded_images_are_placed_as_everywhere_else(client: httpx.AsyncClient) -> None:
    files = [png(250), png(5)]
    data = b"".join(len(file).to_bytes(4, "little") + file for file in files)
    images: dict[str, Any] = {"name": "images", "datatype": "BYTES", "shape": [2]}
    images["parameters"] = {"binary_data_size": len(data)}
    head = orjson.dumps({"inputs": [images], "parameters": {"preprocess": "raw"}})
    headers = {LENGTH: str(len(head))}
    answer = await client.post("/v2/models/toy/infer", content=head + data, headers=headers)
    assert outputs(answer)["label"]["data"] == ["bright", "dark"]


async def test_a_broken_image_is_400_and_named(client: httpx.AsyncClient) -> None:
    images = {"name": "images", "datatype": "BYTES", "shape": [1], "data": ["aGVsbG8="]}
    answer = await client.post("/v2/models/toy/infer", json={"inputs": [images]})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("image 0: not an image")


async def test_a_receipt_of_this_protocol_takes_a_label(client: httpx.AsyncClient) -> None:
    wanted = [{"name": "receipt"}]
    answer = await client.post("/v2/models/toy/infer", json=asked(toy.white(), outputs=wanted))
    (receipt,) = outputs(answer)["receipt"]["data"]
    labelled = await client.post("/v1/feedback", json={"id": receipt, "label": "bright"})
    assert labelled.json()["correct"] is True


async def test_a_timeout_shortens_the_deadline(client: httpx.AsyncClient) -> None:
    record = asked(toy.white(), parameters={"timeout": 1})  # a microsecond
    answer = await client.post("/v2/models/toy/infer", json=record)
    assert answer.status_code in (429, 504)
    record = asked(toy.white(), parameters={"timeout": 10_000_000})
    assert (await client.post("/v2/models/toy/infer", json=record)).status_code == 200


async def test_predictions_count_like_those_of_v1(client: httpx.AsyncClient) -> None:
    async def counts() -> Counter[str]:
        """By class, over all versions: other tests of this process may have left some."""
        text = (await client.get("/metrics")).text
        found: Counter[str] = Counter()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "vitrine_predictions_total" and sample.labels["model"] == "toy":
                    found[sample.labels["class"]] += int(sample.value)
        return found

    before = await counts()
    body, headers = binary(np.concatenate([toy.white(3), toy.black(2)]))
    await client.post("/v2/models/toy/infer", content=body, headers=headers)
    after = await counts()
    assert after["bright"] - before["bright"] == 3
    assert after["dark"] - before["dark"] == 2


async def test_statistics_add_up(client: httpx.AsyncClient, served: Inside) -> None:
    async def stats(path: str) -> Any:
        served.process.flush()
        (record,) = (await client.get(path)).json()["model_stats"]
        return record

    before = await stats("/v2/models/toy/stats")
    await asyncio.gather(
        *(client.post("/v2/models/toy/infer", json=asked(toy.white(3))) for _ in range(4))
    )
    await client.post("/v2/models/toy/infer", json={})
    after = await stats("/v2/models/stats")
    assert after["inference_count"] - before["inference_count"] == 12
    assert 1 <= after["execution_count"] - before["execution_count"] <= 4
    assert after["last_inference"] > 1_700_000_000_000
    done, was = after["inference_stats"], before["inference_stats"]
    assert done["success"]["count"] - was["success"]["count"] == 4
    assert done["fail"]["count"] - was["fail"]["count"] == 1
    assert done["compute_infer"]["ns"] > was["compute_infer"]["ns"]
    for stage in ("queue", "compute_input", "compute_infer", "compute_output"):
        assert done[stage]["count"] == done["success"]["count"], "perf_analyzer stops at this"
    took = {stage: done[stage]["ns"] - was[stage]["ns"] for stage in done}
    assert took["queue"] + took["compute_infer"] < took["success"]
    assert (await client.get(f"/v2/models/toy/versions/{after['version']}")).status_code == 200
    assert after["version"].isdecimal(), "which perf_analyzer reads as an integer"


async def test_a_model_is_unloaded_and_loaded_again(client: httpx.AsyncClient) -> None:
    unload = "/v2/repository/models/light/unload"
    record = {"parameters": {"unload_dependents": False}}
    assert (await client.post(unload, json=record, headers=AS_ADMIN)).status_code == 200
    assert (await client.get("/v2/models/toy/ready")).status_code == 404
    (entry,) = (await client.post("/v2/repository/index")).json()
    assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "unloaded")
    assert (await client.post("/v2/repository/index", json={"ready": True})).json() == []
    assert (await client.get("/v2/health/ready")).status_code == 200  # it was somebody's will
    load = "/v2/repository/models/toy/load"
    assert (await client.post(load, headers=AS_ADMIN)).status_code == 200
    assert (await client.get("/v2/models/light/ready")).status_code == 200
    (entry,) = (await client.post("/v2/repository/index", json={"ready": True})).json()
    assert (entry["name"], entry["state"]) == ("toy", "READY")


async def test_a_version_is_loaded_by_its_name(client: httpx.AsyncClient, served: Inside) -> None:
    store: Store = served.process.store
    swapped = toy.publish(store, sign=-1.0)
    record = {"parameters": {"version": swapped.version}}
    answer = await client.post("/v2/repository/models/toy/load", json=record, headers=AS_ADMIN)
    assert answer.status_code == 200
    answer = await client.post("/v2/models/toy/infer", json=asked(toy.white()))
    assert answer.json()["model_version"] == swapped.version
    assert outputs(answer)["label"]["data"] == ["dark"]


async def test_a_damaged_version_is_503_with_the_reason_and_the_old_one_goes_on(
    client: httpx.AsyncClient, served: Inside
) -> None:
    store = served.process.store
    broken = toy.publish(store, constant=7)
    (store.folder("toy", broken.version) / "model.onnx").write_bytes(b"nothing")
    record = {"parameters": {"version": broken.version}}
    answer = await client.post("/v2/repository/models/toy/load", json=record, headers=AS_ADMIN)
    assert answer.status_code == 503
    assert answer.json()["error"].startswith("1 of 1 workers have not followed: version")
    answer = await client.post("/v2/models/toy/infer", json=asked(toy.white()))
    assert outputs(answer)["label"]["data"] == ["bright"]


@pytest.mark.parametrize("verb", ["load", "unload"])
async def test_a_catalog_that_cannot_be_written_is_503_without_its_path(
    client: httpx.AsyncClient, served: Inside, caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    place = served.process.store.written
    assert place is not None
    other = toy.publish(served.process.store, constant=9)
    (place / ".lock").unlink()
    (place / ".lock").mkdir()  # whoever runs the tests, root too, cannot open it to write
    record = {"parameters": {"version": other.version}} if verb == "load" else {}
    path = f"/v2/repository/models/toy/{verb}"
    answer = await client.post(path, json=record, headers=AS_ADMIN)
    assert answer.status_code == 503
    assert str(place) not in answer.text
    assert str(place) in caplog.text


@pytest.mark.parametrize(
    ("path", "record", "status"),
    [
        ("none/load", None, 404),
        ("none/unload", None, 404),
        ("..%2F..%2Fetc/load", None, 404),
        ("toy/load", {"parameters": {"config": "{}"}}, 400),
        ("toy/load", {"parameters": {"file:1/model.onnx": "AAAA"}}, 400),
        ("toy/load", {"parameters": {"version": 3}}, 400),
        ("toy/load", {"parameters": {"version": "000000000000"}}, 404),
        ("toy/load", {"parameters": []}, 400),
        ("toy/load", [], 400),
        ("toy/reload", None, 404),
    ],
)
async def test_what_cannot_be_loaded_is_refused(
    client: httpx.AsyncClient, path: str, record: Any, status: int
) -> None:
    content = b"" if record is None else orjson.dumps(record)
    answer = await client.post(f"/v2/repository/models/{path}", content=content, headers=AS_ADMIN)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
