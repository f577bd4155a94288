"""The ASGI front and /v1, in this process: forms, statuses, headers, limits."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import re
import time
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from artifacts import gpus
from artifacts.model import Outputs
from service import placement
from service.dispatch import Dispatch
from service.process import Process
from service.settings import Settings
from tests import toy
from tests.asgi import Inside, inside
from tests.serving import png

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLASSIFY = "/v1/classify/light?preprocess=raw"
PNG = {"content-type": "image/png"}
LIMIT = 256 * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Inside]:
    folder = tmp_path_factory.mktemp("state")
    async with inside(folder, max_body_bytes=LIMIT, max_queue=16, max_images=20) as running:
        yield running


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem of an answer, checked to be one."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    record: dict[str, Any] = answer.json()
    assert record["status"] == status
    assert {"type", "title", "detail"} <= record.keys()
    assert not re.search(r"(^|[ '\"])/(?!docs)|Traceback|\b0x", record["detail"])
    return record


async def test_the_bytes_of_an_image_become_a_label(it: Inside) -> None:
    answer = await it.client.post(CLASSIFY, content=png(250), headers=PNG)
    record = answer.json()
    assert (answer.status_code, record["model"]) == (200, "toy")
    (prediction,) = record["predictions"]
    assert (prediction["label"], prediction["index"]) == ("bright", 0)
    assert prediction["top"][0]["probability"] == prediction["confidence"] > 0.99
    assert [entry["label"] for entry in prediction["top"]] == ["bright", "dark"]
    assert len(prediction["id"]) == 52
    assert "set" not in prediction


async def test_a_task_and_its_model_answer_alike(it: Inside) -> None:
    for name in ("light", "toy"):
        answer = await it.client.post(f"/v1/classify/{name}?preprocess=raw", content=png(3))
        assert answer.json()["predictions"][0]["label"] == "dark"


async def test_top_k_and_the_conformal_set_are_given_when_asked_for(it: Inside) -> None:
    answer = await it.client.post(f"{CLASSIFY}&top_k=1&set=0.95", content=png(250), headers=PNG)
    (prediction,) = answer.json()["predictions"]
    assert len(prediction["top"]) == 1
    assert prediction["set"] == ["bright"]


async def test_json_holds_many_images(it: Inside) -> None:
    images = [base64.b64encode(png(level)).decode() for level in (250, 3, 250)]
    answer = await it.client.post(CLASSIFY, json={"images": images})
    assert [p["label"] for p in answer.json()["predictions"]] == ["bright", "dark", "bright"]


async def test_a_form_holds_many_images_and_a_bad_one_fails_alone(it: Inside) -> None:
    files = [
        ("a", ("a.png", png(250), "image/png")),
        ("b", ("b.png", b"no image", "image/png")),
        ("c", ("c.png", png(3), "image/png")),
    ]
    answer = await it.client.post(CLASSIFY, files=files)
    first, second, third = answer.json()["predictions"]
    assert answer.status_code == 200
    assert (first["label"], third["label"]) == ("bright", "dark")
    assert second["error"]["status"] == 422


async def test_many_images_of_which_none_is_good_are_422(it: Inside) -> None:
    answer = await it.client.post(CLASSIFY, files=[("a", ("a.png", b"x")), ("b", ("b", b""))])
    assert answer.status_code == 422
    assert [p["error"]["status"] for p in answer.json()["predictions"]] == [422, 422]


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("top_k=0", "top_k"),
        ("top_k=1001", "top_k"),
        ("top_k=x", "top_k"),
        ("top_k=001000" + 5000 * "0", "top_k"),
        ("top_k=%C2%B2", "top_k"),
        ("preprocess=maybe", "preprocess"),
        ("set=0.5", "set"),
        ("set=nan", "set"),
        ("sett=0.95", "sett"),
        ("%ff=1", "unknown"),
    ],
)
async def test_a_bad_query_is_400_and_named(it: Inside, query: str, word: str) -> None:
    answer = await it.client.post(f"/v1/classify/light?{query}", content=png(250))
    assert word in problem(answer, 400)["detail"]


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", PNG, 422),
        (b"no image at all", PNG, 422),
        (png(250)[:40], PNG, 422),
        (png(250)[:-32], {"content-type": "image/jpg"}, 422),
        (png(250), {"content-type": "text/plain"}, 415),
        (b"{", {"content-type": "application/json"}, 400),
        (b"[]", {"content-type": "application/json"}, 400),
        (b'{"images": "x"}', {"content-type": "application/json"}, 400),
        (b'{"images": [1]}', {"content-type": "application/json"}, 400),
        (b'{"images": ["\xc3\xa9"]}', {"content-type": "application/json"}, 400),
        (b'{"images": []}', {"content-type": "application/json"}, 422),
        (b"--x--", {"content-type": "multipart/form-data"}, 400),
        (b"--x", {"content-type": "multipart/form-data; boundary=x"}, 400),
        (b"nonsense", {"content-type": "multipart/form-data; boundary=x"}, 400),
        (bytes(LIMIT + 1), PNG, 413),
        (png(250), PNG | {"content-encoding": "br"}, 415),
        (png(250), PNG | {"content-encoding": "gzip"}, 400),
        (gzip.compress(png(250))[:-9], PNG | {"content-encoding": "gzip"}, 400),
        (gzip.compress(bytes(100 * LIMIT)), PNG | {"content-encoding": "gzip"}, 413),
        (zlib.compress(bytes(100 * LIMIT)), PNG | {"content-encoding": "deflate"}, 413),
    ],
)
async def test_a_client_mistake_is_a_client_error(
    it: Inside, content: bytes, headers: dict[str, str], status: int
) -> None:
    problem(await it.client.post(CLASSIFY, content=content, headers=headers), status)


async def test_over_the_number_of_images_is_413(it: Inside) -> None:
    images = [base64.b64encode(png(250)).decode()] * 21
    problem(await it.client.post(CLASSIFY, json={"images": images}), 413)
    problem(await it.client.post(CLASSIFY, files=[("f", ("f", png(1)))] * 21), 413)


async def test_a_full_queue_is_429_and_says_when_to_retry(it: Inside) -> None:
    served = it.process.models.get("light")
    assert served is not None
    served.batcher.in_rotation = True  # its turn does not come
    waiting = served.batcher.submit(toy.white(12), time.perf_counter() + 60)
    images = [base64.b64encode(png(250)).decode()] * 6
    answer = await it.client.post(CLASSIFY, json={"images": images})
    problem(answer, 429)
    assert int(answer.headers["retry-after"]) >= 1
    it.process.models.turns.add(served.batcher)
    await waiting
    answer = await it.client.post(CLASSIFY, json={"images": images})
    assert answer.status_code == 200


async def test_more_images_than_the_queue_can_hold_are_413(it: Inside) -> None:
    images = [base64.b64encode(png(250)).decode()] * 18
    problem(await it.client.post(CLASSIFY, json={"images": images}), 413)


async def test_of_many_images_one_on_which_the_model_fails_fails_alone(
    it: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = it.process.models.get("light")
    assert served is not None

    def predict(pixels: np.ndarray[Any, Any]) -> Outputs:
        if pixels.mean(axis=(1, 2)).min() < 100:
            raise RuntimeError("it does not like the dark")
        return served.model.predict(pixels)

    monkeypatch.setattr(served.batcher.runner, "_predict", predict)
    images = [base64.b64encode(png(level)).decode() for level in (250, 10, 240)]
    answer = await it.client.post(CLASSIFY, json={"images": images})
    assert answer.status_code == 200
    one, two, three = answer.json()["predictions"]
    assert (one["label"], three["label"]) == ("bright", "bright")
    assert two["error"]["status"] == 500


@pytest.mark.parametrize("filling", [b"[],", b"0,", b'{"a":1},'])
async def test_a_body_of_countless_values_is_refused_unread(it: Inside, filling: bytes) -> None:
    body = b'{"images": [' + filling * (200_000 // len(filling)) + b"1]}"
    headers = {"content-type": "application/json"}
    problem(await it.client.post(CLASSIFY, content=body, headers=headers), 400)
    assert (await it.client.post("/v2/repository/index", content=body)).status_code == 400
    problem(await it.client.post("/v1/feedback", content=body), 400)


async def test_a_large_body_is_read_beside_the_loop(it: Inside) -> None:
    text = base64.b64encode(png(250)).decode()
    record = {"images": [text] * 12, "padding": " " * 70_000}
    answer = await it.client.post(CLASSIFY, json=record)
    assert [found["label"] for found in answer.json()["predictions"]] == ["bright"] * 12
    files = [("f", ("f", png(250)))] * 12 + [("f", ("f", bytes(70_000)))]
    answer = await it.client.post(CLASSIFY, files=files)
    assert [found.get("label") for found in answer.json()["predictions"]] == ["bright"] * 12 + [
        None
    ]
    problem(await it.client.post(CLASSIFY, json={"images": ["!" * 70_000]}), 400)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_compressed_body_is_read(it: Inside, coding: str) -> None:
    pack = gzip.compress if coding == "gzip" else zlib.compress
    headers = PNG | {"content-encoding": coding}
    answer = await it.client.post(CLASSIFY, content=pack(png(3)), headers=headers)
    assert answer.json()["predictions"][0]["label"] == "dark"


async def test_a_large_picture_is_decoded_beside_the_loop(it: Inside) -> None:
    numbers = np.random.default_rng(1).integers(200, 255, (700, 900), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(numbers).save(buffer, "JPEG", quality=30)
    answer = await it.client.post("/v1/classify/light?preprocess=raw", content=buffer.getvalue())
    assert answer.status_code in (200, 422)  # raw wants the model's own size


async def test_unknown_models_and_paths_are_404(it: Inside) -> None:
    assert "light" in problem(await it.client.post("/v1/classify/none"), 404)["detail"]
    for path in ("/nothing", "/v1", "/v1/models/none", "/v1/models/a/b", "/v1/models/x/accuracy"):
        problem(await it.client.get(path), 404)


async def test_a_wrong_method_is_405_and_names_the_right_ones(it: Inside) -> None:
    answer = await it.client.get("/v1/classify/light")
    problem(answer, 405)
    assert answer.headers["allow"] == "OPTIONS, POST"
    answer = await it.client.options("/v1/models")
    assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/v1/models", "/v1/models/light"])
async def test_head_is_get_without_the_body(it: Inside, path: str) -> None:
    assert (await it.client.get(path)).status_code == 200
    answer = await it.client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1.2:3_Z", True), ("a b", False), ("x" * 129, False), ("", False), ("é", False)],
)
async def test_a_sane_request_id_is_kept_and_another_replaced(
    it: Inside, given: str, kept: bool
) -> None:
    answer = await it.client.get("/livez", headers={b"x-request-id": given.encode()})
    assert (answer.headers["x-request-id"] == given) is kept


async def test_every_request_has_an_id_of_its_own(it: Inside) -> None:
    ids = {(await it.client.get("/nothing")).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


async def test_metrics_count_what_was_answered(it: Inside) -> None:
    async def count() -> float:
        text = (await it.client.get("/metrics")).text
        line = 'vitrine_requests_total{model="toy",status="200",surface="v1"}'
        return sum(float(x.split()[-1]) for x in text.splitlines() if x.startswith(line))

    before = await count()
    for _ in range(3):
        await it.client.post(CLASSIFY, content=png(250))
    assert await count() == before + 3


async def test_a_scan_of_paths_makes_no_series(it: Inside) -> None:
    await it.client.get("/scan")
    before = len((await it.client.get("/metrics")).text.splitlines())
    for number in range(50):
        await it.client.get(f"/scan/{number}")
        await it.client.post(f"/v1/classify/model{number}", content=b"x")
    lines = (await it.client.get("/metrics")).text.splitlines()
    assert len(lines) <= before + 2
    assert not [line for line in lines if "scan" in line or "model4" in line]


async def test_bento_gets_its_schema_and_nothing_else(it: Inside) -> None:
    assert (await it.client.get("/schema.json")).status_code == 418
    problem(await it.client.get("/docs.json"), 404)


async def exchange(app: Dispatch, messages: list[dict[str, Any]], **scope: Any) -> tuple[Any, ...]:
    """One request whose body comes as these messages, and then never more: status, headers."""
    sent: list[Any] = []
    left = list(messages)

    async def receive() -> Any:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    whole = {
        "type": "http",
        "method": "POST",
        "path": "/v1/classify/light",
        "query_string": b"",
        "headers": [],
        **scope,
    }
    await asyncio.wait_for(app(whole, receive, send), 20)
    if not sent:
        return (None, {})
    return sent[0]["status"], dict(sent[0]["headers"])


async def test_bodies_late_large_and_broken_off(it: Inside) -> None:
    more = {"type": "http.request", "body": bytes(LIMIT // 2), "more_body": True}
    status, headers = await exchange(it.app, [more, more, more])
    assert (status, headers[b"connection"]) == (413, b"close")
    length = [(b"content-length", b"%d" % (LIMIT + 1))]
    status, headers = await exchange(it.app, [], headers=length)  # refused unread
    assert (status, headers[b"connection"]) == (413, b"close")
    assert await exchange(it.app, [more, {"type": "http.disconnect"}]) == (None, {})
    assert it.process.requests.in_flight == 0
    answer = await it.client.post(CLASSIFY, content=png(250))
    assert answer.status_code == 200


async def test_a_body_that_never_ends_is_408(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("slow")
    async with inside(folder, body_timeout_s=0.1, max_inflight_bytes=1024) as slow:
        part = {"type": "http.request", "body": b"x", "more_body": True}
        for messages in ([], [part]):
            status, headers = await exchange(slow.app, messages)
            assert (status, headers[b"connection"]) == (408, b"close")
        part = {"type": "http.request", "body": bytes(2000), "more_body": True}
        status, headers = await exchange(slow.app, [part])
        assert (status, headers[b"retry-after"]) == (429, b"1")


async def test_an_answer_that_comes_too_late_is_504(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 255, (1500, 1500), np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    async with inside(tmp_path_factory.mktemp("late"), deadline_s=0.001) as late:
        problem(await late.client.post("/v1/classify/light", content=buffer.getvalue()), 504)


async def test_before_the_models_are_loaded_it_is_503(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async with inside(tmp_path_factory.mktemp("early"), start=False) as early:
        answer = await early.client.post(CLASSIFY, content=png(250))
        problem(answer, 503)
        assert answer.headers["retry-after"] == "1"
        assert (await early.client.get("/readyz")).status_code == 503
        assert (await early.client.get("/livez")).status_code == 200


async def test_without_a_state_folder_predictions_go_on_and_readiness_says_so() -> None:
    async with inside(None) as bare:
        detail = (await bare.client.get("/readyz")).json()
        assert "VITRINE_STATE" in detail["state"]


async def test_cuda_that_is_installed_but_not_used_is_said_everywhere(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(placement, "offers_cuda", lambda: True)
    monkeypatch.setattr(gpus, "count", no_gpu)
    async with inside(tmp_path_factory.mktemp("state"), alone=True) as it:
        listed = (await it.client.get("/v1/models")).json()
        assert listed["execution_provider_problem"] == "there is no driver"
        ready = (await it.client.get("/readyz")).json()
        assert ready["execution_provider_problem"] == "there is no driver"
        assert "vitrine_cuda_unused 1.0" in (await it.client.get("/metrics")).text
    assert caplog.text.count("not on CUDA: there is no driver") == 1


def no_gpu() -> int:
    raise gpus.NoGpu("there is no driver")


async def test_an_unwritable_state_folder_is_said(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("file") / "file"
    file.write_text("not a folder")
    process = Process(Settings(state=file / "state"))
    assert "cannot be written" in process.readiness()[1]["state"]
    await process.stop()


async def test_cors_is_for_the_origins_that_are_named(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("cors")
    async with inside(folder, cors_origins=("https://example.org",)) as open_:
        good = "https://example.org"
        for origin, allowed in ((good, good), ("https://e", None)):
            answer = await open_.client.get("/v1/models", headers={"origin": origin})
            assert answer.headers.get("access-control-allow-origin") == allowed
            assert answer.headers["vary"] == "origin"
        answer = await open_.client.options(
            "/v1/classify/light", headers={"origin": "https://example.org"}
        )
        assert "POST" in answer.headers["access-control-allow-methods"]


async def test_without_origins_there_is_no_cors(it: Inside) -> None:
    answer = await it.client.get("/v1/models", headers={"origin": "https://example.org"})
    assert "access-control-allow-origin" not in answer.headers


async def test_a_draining_process_is_not_ready_and_closes(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async with inside(tmp_path_factory.mktemp("drain")) as duck:
        duck.process.draining = True
        answer = await duck.client.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "draining")
        answer = await duck.client.post(CLASSIFY, content=png(250))
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
