"""Every form of request that gives a receipt keeps what the model saw under it."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from httpx import AsyncClient, Response
from numpy.typing import NDArray
from PIL import Image

from service import capture
from tests.asgi import Inside, inside

Pixels = NDArray[np.uint8]
LENGTH = "inference-header-content-length"
INFER = "/v2/models/toy/infer"
# Two images that nothing changes on the way to the model: light in the middle of a black ground.
SEEN = np.pad(np.array([[[200]], [[90]]], np.uint8), ((0, 0), (9, 18), (14, 13)))


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Inside]:
    async with inside(tmp_path, alone=True, capture=1.0) as started:
        yield started


def files() -> list[bytes]:
    packed = [io.BytesIO() for _ in SEEN]
    for each, file in zip(SEEN, packed, strict=True):
        Image.fromarray(each).save(file, "PNG")
    return [file.getvalue() for file in packed]


def tensor(**more: Any) -> dict[str, Any]:
    return {"name": "images", "datatype": "UINT8", "shape": list(SEEN.shape), **more}


async def v1_file(client: AsyncClient) -> list[Response]:
    return [await client.post("/v1/classify/toy", content=each) for each in files()]


async def v1_form(client: AsyncClient) -> Response:
    parts = [("image", ("a.png", each, "image/png")) for each in files()]
    return await client.post("/v1/classify/toy", files=parts)


async def v1_json(client: AsyncClient) -> Response:
    texts = [base64.b64encode(each).decode() for each in files()]
    return await client.post("/v1/classify/toy", json={"images": texts})


async def json_tensor(client: AsyncClient) -> Response:
    return await client.post(INFER, json={"inputs": [tensor(data=SEEN.ravel().tolist())]})


async def binary_tensor(client: AsyncClient) -> Response:
    head = orjson.dumps({"inputs": [tensor(parameters={"binary_data_size": SEEN.nbytes})]})
    body = head + SEEN.tobytes()
    return await client.post(INFER, content=body, headers={LENGTH: str(len(head))})


async def json_files(client: AsyncClient) -> Response:
    texts = [base64.b64encode(each).decode() for each in files()]
    images = {"name": "images", "datatype": "BYTES", "shape": [2], "data": texts}
    return await client.post(INFER, json={"inputs": [images]})


async def binary_files(client: AsyncClient) -> Response:
    data = b"".join(len(each).to_bytes(4, "little") + each for each in files())
    images = {"name": "images", "datatype": "BYTES", "shape": [2]}
    head = orjson.dumps({"inputs": [images | {"parameters": {"binary_data_size": len(data)}}]})
    return await client.post(INFER, content=head + data, headers={LENGTH: str(len(head))})


async def bare_pixels(client: AsyncClient) -> Response:
    return await client.post(INFER, content=SEEN.tobytes(), headers={LENGTH: "0"})


FORMS: tuple[Callable[[AsyncClient], Awaitable[Any]], ...] = (
    v1_file,
    v1_form,
    v1_json,
    json_tensor,
    binary_tensor,
    json_files,
    binary_files,
    bare_pixels,
)


def receipts(answer: Response) -> list[str]:
    """The receipts of an answer of either surface, in its order."""
    assert answer.status_code == 200, answer.text
    if answer.url.path.startswith("/v1"):
        return [each["id"] for each in answer.json()["predictions"]]
    length = answer.headers.get(LENGTH)
    record = orjson.loads(answer.content[: int(length)] if length else answer.content)
    tail = answer.content[int(length) :] if length else b""
    for output in record["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size", 0)
        data, tail = tail[:size], tail[size:]
        if output["name"] == "receipt":
            return output.get("data") or _strings(data)
    raise AssertionError(record)


def _strings(data: bytes) -> list[str]:
    found = []
    while data:
        end = 4 + int.from_bytes(data[:4], "little")
        found.append(data[4:end].decode())
        data = data[end:]
    return found


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
async def test_what_the_model_saw_is_kept_by_receipt(
    form: Callable[[AsyncClient], Awaitable[Any]], served: Inside, tmp_path: Path
) -> None:
    answers = await form(served.client)
    signed = [
        receipt
        for answer in (answers if isinstance(answers, list) else [answers])
        for receipt in receipts(answer)
    ]
    await served.process.stop()  # writes what waits
    assert len(set(signed)) == 2
    for receipt, pixels in zip(signed, SEEN, strict=True):
        path = capture.find(tmp_path / capture.FOLDER, receipt, time.time())
        assert path is not None
        assert np.array_equal(np.asarray(Image.open(path)), pixels)


async def test_an_answer_without_a_receipt_keeps_nothing(served: Inside, tmp_path: Path) -> None:
    outputs = [{"name": "probabilities"}]
    record = {"inputs": [tensor(data=SEEN.ravel().tolist())], "outputs": outputs}
    answer = await served.client.post(INFER, json=record)
    assert answer.status_code == 200
    await served.process.stop()
    assert not (tmp_path / capture.FOLDER).exists()


def test_what_waits_is_a_copy_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "MAX_WAITING", 3)
    keeping = capture.Capture(tmp_path, 1.0)
    # The writer has not been started: it is the queue that is looked at here.
    monkeypatch.setattr(keeping, "_thread", object())
    request = np.zeros((512, 28, 28), np.uint8)
    for number in range(10):
        keeping.offer(f"receipt-{number}", request[number])
    waiting = list(keeping._waiting.queue)
    assert [item[0] for item in waiting if item] == ["receipt-0", "receipt-1", "receipt-2"]
    assert all(item is not None and item[1].base is None for item in waiting)
