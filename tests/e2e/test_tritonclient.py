"""NVIDIA's own client of the protocol, unchanged, against a real server with two workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from tests import toy
from tests.e2e.conftest import ADMIN_KEY
from tests.serving import ROOT, Server, png

QUIET_MODEL = "mnist-mlp256x2"  # which no other test asks
AS_ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}


@pytest.fixture
def client(shared: Server) -> Iterator[Any]:
    with triton.InferenceServerClient(address(shared)) as opened:
        yield opened


def address(server: Server) -> str:
    return server.url.removeprefix("http://")


def pixels(rows: NDArray[np.uint8], *, binary: bool = True) -> Any:
    tensor = triton.InferInput("images", list(rows.shape), "UINT8")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return tensor


def both() -> NDArray[np.uint8]:
    return np.concatenate([toy.white(), toy.black()])


def words(array: Any) -> list[str]:
    """Elements of BYTES, which this client gives as bytes when they came in binary."""
    return [text.decode() if isinstance(text, bytes) else text for text in array.ravel().tolist()]


def test_server_and_model_say_what_they_are(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata()["name"] == "vitrine"
    metadata = client.get_model_metadata("light")
    assert metadata["name"] == "toy"
    (version,) = metadata["versions"]
    assert client.is_model_ready("light")
    assert client.is_model_ready("toy", version)
    assert not client.is_model_ready("toy", "000000000000")
    assert not client.is_model_ready("none")
    config = client.get_model_config("toy", version)
    assert config["input"][0]["dims"] == [28, 28]
    assert config["max_batch_size"] > 0


@pytest.mark.parametrize("binary", [True, False])
def test_every_output_in_both_forms(client: Any, binary: bool) -> None:
    wanted = [
        triton.InferRequestedOutput(name, binary_data=binary)
        for name in ("probabilities", "energy", "label", "decision", "receipt")
    ]
    tensor = pixels(both(), binary=binary)
    for outputs in (None, wanted):
        result = client.infer("light", [tensor], outputs=outputs, request_id="mine")
        assert result.get_response()["id"] == "mine"
        assert result.as_numpy("probabilities").argmax(1).tolist() == [0, 1]
        assert result.as_numpy("energy").shape == (2,)
        assert words(result.as_numpy("label")) == ["bright", "dark"]
        assert words(result.as_numpy("decision")) == ["accept", "accept"]
        assert len(words(result.as_numpy("receipt"))[0]) == 52


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests(client: Any, algorithm: str) -> None:
    result = client.infer(
        "light",
        [pixels(both())],
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    assert words(result.as_numpy("label")) == ["bright", "dark"]


@pytest.mark.parametrize("binary", [True, False])
def test_the_classification_extension(client: Any, binary: bool) -> None:
    wanted = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=1)
    result = client.infer("light", [pixels(both())], outputs=[wanted])
    found = [text.split(":") for text in words(result.as_numpy("probabilities"))]
    assert [(index, label) for _, index, label in found] == [("0", "bright"), ("1", "dark")]
    assert all(float(value) > 0.9 for value, _, _ in found)


def test_encoded_images(client: Any) -> None:
    tensor = triton.InferInput("images", [2], "BYTES")
    tensor.set_data_from_numpy(np.array([png(250), png(5)], np.object_))
    result = client.infer("light", [tensor], parameters={"preprocess": "raw"})
    assert words(result.as_numpy("label")) == ["bright", "dark"]


def test_real_digits_are_recognised_whether_encoded_or_not(client: Any) -> None:
    with np.load(ROOT / "tests" / "data" / "mnist" / "mnist.npz") as data:
        images, labels = data["images"][:100], data["labels"][:100]
    result = client.infer("digits", [pixels(images)])
    assert result.get_response()["model_name"].startswith("mnist")
    assert (result.as_numpy("probabilities").argmax(1) == labels).mean() > 0.95


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (triton.InferInput("pixels", [1, 28, 28], "UINT8"), "name"),
        (triton.InferInput("images", [28, 28], "UINT8"), "shape"),
        (triton.InferInput("images", [1, 28, 28], "FP32"), "datatype"),
    ],
)
def test_mistakes_are_told(client: Any, tensor: Any, message: str) -> None:
    kind = np.float32 if tensor.datatype() == "FP32" else np.uint8
    tensor.set_data_from_numpy(np.zeros(tensor.shape(), kind))
    with pytest.raises(InferenceServerException, match=message) as caught:
        client.infer("light", [tensor])
    assert caught.value.status() == "400"


def test_requests_side_by_side(shared: Server) -> None:
    with triton.InferenceServerClient(address(shared), concurrency=8) as client:
        bright, dark = pixels(toy.white()), pixels(toy.black())
        sent = [client.async_infer("light", [bright if i % 2 else dark]) for i in range(64)]
        found = [words(each.get_result().as_numpy("label"))[0] for each in sent]
    assert found == ["dark", "bright"] * 32


async def test_the_asynchronous_client(shared: Server) -> None:
    async with triton_aio.InferenceServerClient(address(shared)) as client:
        results = await asyncio.gather(*(client.infer("light", [pixels(both())]) for _ in range(8)))
    assert {tuple(words(result.as_numpy("label"))) for result in results} == {("bright", "dark")}


def test_statistics_are_those_of_all_workers(shared: Server, client: Any) -> None:
    def count() -> int:
        (record,) = client.get_inference_statistics(QUIET_MODEL)["model_stats"]
        return int(record["inference_count"])

    before = count()
    for _ in range(20):  # a connection each, so that both workers are met
        with triton.InferenceServerClient(address(shared)) as other:
            other.infer(QUIET_MODEL, [pixels(both())])
    end = time.monotonic() + 10  # a worker tells of its counts four times a second
    while count() < before + 40:
        assert time.monotonic() < end
    assert count() == before + 40


def test_every_worker_follows_before_a_load_is_answered(shared: Server, client: Any) -> None:
    def ready_somewhere() -> set[bool]:
        answers = set()
        for _ in range(20):  # a connection each, so that both workers are met
            with triton.InferenceServerClient(address(shared)) as other:
                answers.add(bool(other.is_model_ready(QUIET_MODEL)))
        return answers

    with pytest.raises(InferenceServerException) as caught:
        client.unload_model(QUIET_MODEL)
    assert caught.value.status() == "401"
    client.unload_model(QUIET_MODEL, headers=AS_ADMIN)
    assert ready_somewhere() == {False}
    states = {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}
    assert states[QUIET_MODEL] == "UNAVAILABLE"
    client.load_model(QUIET_MODEL, headers=AS_ADMIN)
    assert ready_somewhere() == {True}
    with pytest.raises(InferenceServerException) as caught:
        client.load_model(QUIET_MODEL, config="{}", headers=AS_ADMIN)
    assert caught.value.status() == "400"
