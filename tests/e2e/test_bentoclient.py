"""BentoML's own clients, against the typed endpoint of a real server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bentoml
import httpx
import pytest
from bentoml.exceptions import BentoMLException

from tests.serving import Server, free_port, png, serving

API_KEY = "an-api-key-for-tests"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = []
    for name, level in (("bright", 250), ("dark", 5)):
        paths.append(tmp_path / f"{name}.png")
        paths[-1].write_bytes(png(level))
    return paths


@contextmanager
def connected(url: str, **options: Any) -> Iterator[Any]:
    with bentoml.SyncHTTPClient(url, **options) as client:
        yield client
    client._temp_dir.cleanup()  # which the client itself leaves to the garbage collector


def labels(answer: dict[str, Any]) -> list[str]:
    return [entry["label"] for entry in answer["predictions"]]


def test_files_are_classified(shared: Server, files: list[Path]) -> None:
    with connected(shared.url) as client:
        answer = client.classify(images=files, model="light", top_k=1, preprocess="raw")
    assert answer["model"] == "toy"
    assert labels(answer) == ["bright", "dark"]
    assert len(answer["predictions"][0]["top"]) == 1


async def test_the_asynchronous_client(shared: Server, files: list[Path]) -> None:
    async with bentoml.AsyncHTTPClient(shared.url) as client:
        answer = await client.classify(images=files, model="light", preprocess="raw")
    client._temp_dir.cleanup()
    assert labels(answer) == ["bright", "dark"]


def test_a_broken_image_fails_alone(shared: Server, files: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(png(250)[:40])
    with connected(shared.url) as client:
        answer = client.classify(images=[broken, *files], model="light", preprocess="raw")
        assert answer["predictions"][0]["error"]["status"] == 422
        assert [entry["label"] for entry in answer["predictions"][1:]] == ["bright", "dark"]
        with pytest.raises(BentoMLException) as caught:
            client.classify(images=[broken], model="light")
    assert caught.value.error_code == 422


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ({"model": "none"}, 404),
        ({"model": 7}, 422),
        ({"model": "light", "top_k": 0}, 422),
        ({"model": "light", "top_k": "three"}, 422),
        ({"model": "light", "preprocess": "best"}, 422),
    ],
)
def test_mistakes_are_the_clients(
    shared: Server, files: list[Path], arguments: dict[str, Any], status: int
) -> None:
    with connected(shared.url) as client:
        with pytest.raises(BentoMLException) as caught:
            client.classify(images=files, **arguments)
        assert caught.value.error_code == status


def test_a_url_in_place_of_a_file_is_not_fetched(shared: Server) -> None:
    address = f"http://127.0.0.1:{free_port()}/secret.png"  # a fetch of it would be a 5xx or hang
    with connected(shared.url) as client:
        with pytest.raises(BentoMLException) as caught:
            client.classify(images=[address], model="light")
        assert caught.value.error_code == 415
    form = {"images": (None, address), "model": (None, '"light"')}
    answer = httpx.post(f"{shared.url}/classify", files=form)
    assert answer.status_code == 422
    assert "URLs are not fetched" in answer.json()["detail"]


@pytest.mark.parametrize(
    "kind", ["application/json", "application/vnd.bentoml+pickle", "text/plain", "image/jpg"]
)
def test_other_bodies_are_never_a_fault_of_the_server(shared: Server, kind: str) -> None:
    answer = httpx.post(
        f"{shared.url}/classify", content=b'{"images": []}', headers={"content-type": kind}
    )
    assert answer.status_code == 415


def test_keys_limits_and_counts_apply(tmp_path: Path, files: list[Path]) -> None:
    settings = {"VITRINE_API_KEYS": API_KEY, "VITRINE_MAX_BODY_BYTES": "4096"}
    with serving(tmp_path, workers=1, **settings) as server:
        arguments: dict[str, Any] = {"images": files, "model": "light", "preprocess": "raw"}
        with connected(server.url) as client:
            with pytest.raises(BentoMLException) as caught:
                client.classify(**arguments)
            assert caught.value.error_code == 401
        with connected(server.url, token=API_KEY) as client:
            assert labels(client.classify(**arguments)) == ["bright", "dark"]
            (tmp_path / "large.png").write_bytes(bytes(5000))
            with pytest.raises(BentoMLException) as caught:
                client.classify(images=[tmp_path / "large.png"], model="light")
            assert caught.value.error_code == 413
        server.wait_for_metric(
            'vitrine_requests_total{model="toy",status="200",surface="typed"} 1.0'
        )
