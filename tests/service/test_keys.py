"""Keys: who may ask, who may change what is served, and what a stranger is told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.http import Problem
from service.keys import KeyRing
from tests.asgi import inside
from tests.serving import png

API, ADMIN = "an-api-key-for-tests", "an-admin-key-for-tests"
PREDICTIONS = ("/v1/classify/light?preprocess=raw", "/v2/models/light/infer", "/v1/feedback")
CHANGES = ("/v2/repository/models/toy/load", "/v2/repository/models/toy/unload")


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def statuses(client: httpx.AsyncClient, paths: tuple[str, ...], **headers: str) -> set[int]:
    return {
        (await client.post(path, content=png(250), headers=headers)).status_code for path in paths
    }


def test_without_keys_predictions_have_no_guard_at_all() -> None:
    assert KeyRing((), ()).predictions is None
    assert KeyRing((), (ADMIN,)).predictions is None


@pytest.mark.parametrize(
    "header",
    [b"", b"Bearer", b"Bearer ", b"Basic " + API.encode(), API.encode(), b"Bearer wrong-key"],
)
def test_what_is_no_known_key_is_401_and_told_how(header: bytes) -> None:
    guard = KeyRing((API,), ()).predictions
    assert guard is not None
    with pytest.raises(Problem) as caught:
        guard({b"authorization": header})
    assert caught.value.status == 401
    assert caught.value.headers[0][0] == b"www-authenticate"


def test_any_of_several_keys_will_do_and_the_scheme_may_be_in_any_case() -> None:
    guard = KeyRing(("first-key-of-three", API, "kéy of three words"), ()).predictions
    assert guard is not None
    guard({b"authorization": f"bearer {API}".encode()})
    guard({b"authorization": "BEARER kéy of three words".encode()})


async def test_predictions_and_feedback_need_a_key_where_one_is_set(tmp_path: Path) -> None:
    async with inside(tmp_path, alone=True, api_keys=(API,), admin_keys=(ADMIN,)) as served:
        client = served.client
        assert await statuses(client, PREDICTIONS) == {401}
        assert await statuses(client, PREDICTIONS, **bearer("not-a-key-of-ours")) == {401}
        for key in (API, ADMIN):
            assert await statuses(client, PREDICTIONS, **bearer(key)) == {200, 400}
        for path in ("/v1/models", "/v2/models/toy", "/readyz", "/metrics", "/v2/health/ready"):
            assert (await client.get(path)).status_code == 200


async def test_refusals_speak_the_language_of_their_surface(tmp_path: Path) -> None:
    async with inside(tmp_path, alone=True, api_keys=(API,)) as served:
        ours = await served.client.post("/v1/classify/light", content=png(250))
        assert ours.headers["content-type"] == "application/problem+json"
        assert ours.json()["status"] == 401
        theirs = await served.client.post("/v2/models/light/infer", content=b"{}")
        assert list(theirs.json()) == ["error"]
        assert "bearer" in theirs.headers["www-authenticate"].lower()


async def test_changes_are_off_without_an_admin_key_and_say_so(tmp_path: Path) -> None:
    async with inside(tmp_path, alone=True, api_keys=(API,)) as served:
        for headers in ({}, bearer(API)):
            answer = await served.client.post(CHANGES[0], headers=headers)
            assert answer.status_code == 403
            assert "VITRINE_ADMIN_KEYS" in answer.json()["error"]


async def test_changes_need_an_admin_key_and_no_other(tmp_path: Path) -> None:
    async with inside(tmp_path, alone=True, api_keys=(API,), admin_keys=(ADMIN,)) as served:
        assert await statuses(served.client, CHANGES) == {401}
        assert await statuses(served.client, CHANGES, **bearer("not-a-key-of-ours")) == {401}
        assert await statuses(served.client, CHANGES, **bearer(API)) == {403}
        for path in reversed(CHANGES):
            answer = await served.client.post(path, headers=bearer(ADMIN))
            assert answer.status_code == 200


async def test_a_preflight_needs_no_key(tmp_path: Path) -> None:
    origin = "https://example.org"
    async with inside(tmp_path, alone=True, api_keys=(API,), cors_origins=(origin,)) as served:
        answer = await served.client.options(PREDICTIONS[0], headers={"origin": origin})
        assert answer.status_code == 204
        assert "authorization" in answer.headers["access-control-allow-headers"]


async def test_no_key_is_ever_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    settings: dict[str, Any] = {"api_keys": (API,), "admin_keys": (ADMIN,), "access_log": True}
    async with inside(tmp_path, alone=True, **settings) as served:
        for key in (API, ADMIN, "a-key-of-somebody-else"):
            await statuses(served.client, PREDICTIONS + CHANGES, **bearer(key))
        assert API not in repr(served.process.settings)
    for key in (API, ADMIN, "a-key-of-somebody-else"):
        assert key not in caplog.text
