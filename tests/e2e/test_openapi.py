"""The OpenAPI document is true: schemathesis tries it against a real server."""

from __future__ import annotations

import base64
import re
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from service.openapi import document
from tests.serving import Server, png

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
]


SCHEMA: Any = schemathesis.openapi.from_dict(document())
OPERATIONS = [result.ok() for result in SCHEMA.get_all_operations()]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_every_answer_is_as_described(shared: Server, operation: Any) -> None:
    live = version(shared)

    @given(case=operation.as_strategy())
    @settings(
        max_examples=15,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def asked(case: Any) -> None:
        if "model" in case.path_parameters:  # else nearly every answer would be 404
            case.path_parameters = {**case.path_parameters, "model": "light"}
        if "version" in case.path_parameters:
            case.path_parameters = {**case.path_parameters, "version": live}
        case.call_and_validate(base_url=shared.url, checks=CHECKS, timeout=30)

    asked()


def version(server: Server) -> str:
    (live,) = httpx.get(f"{server.url}/v2/models/light").json()["versions"]
    return str(live)


PIXELS = {"name": "images", "datatype": "UINT8", "shape": [1, 28, 28], "data": [250] * 784}
LIGHT = {"model": "light"}


@pytest.mark.parametrize(
    ("path", "method", "parts"),
    [
        (
            "/v1/classify/{model}",
            "POST",
            {
                "query": {"set": "0.95", "seen": "1", "timing": "1", "preprocess": "raw"},
                "body": png(250),
                "media_type": "application/octet-stream",
            },
        ),
        (
            "/v1/classify/{model}",
            "POST",
            {
                "query": {"preprocess": "raw"},
                "body": {"images": [base64.b64encode(png(5)).decode(), "aGVsbG8="]},
                "media_type": "application/json",
            },
        ),
        (
            "/v2/models/{model}/infer",
            "POST",
            {"body": {"inputs": [PIXELS], "id": "a"}, "media_type": "application/json"},
        ),
        (
            "/v2/models/{model}/infer",
            "POST",
            {
                "headers": {"Inference-Header-Content-Length": "0"},
                "body": bytes(784),
                "media_type": "application/octet-stream",
            },
        ),
        ("/v1/models/{model}", "GET", {}),
        ("/v1/models/{model}/accuracy", "GET", {}),
        ("/v2/models/{model}", "GET", {}),
        ("/v2/models/{model}/config", "GET", {}),
        ("/v2/models/{model}/stats", "GET", {}),
        ("/v2/models/{model}/ready", "GET", {}),
    ],
)
def test_what_is_done_is_answered_as_described(
    shared: Server, path: str, method: str, parts: dict[str, Any]
) -> None:
    case = SCHEMA[path][method].Case(path_parameters=LIGHT, **parts)
    answer = case.call_and_validate(base_url=shared.url, checks=CHECKS, timeout=30)
    assert answer.status_code == 200


def test_every_path_of_the_routes_is_described(shared: Server) -> None:
    described = httpx.get(f"{shared.url}/openapi.json").json()
    found = {(path, method.upper()) for path, item in described["paths"].items() for method in item}
    client = httpx.Client()  # one: each costs a context for TLS
    for path, method in sorted(found):
        url = shared.url + re.sub(r"\{model\}", "light", path).replace("{version}", "0" * 12)
        answer = client.request(method, url)
        assert answer.status_code != 405, (method, path)
        assert "nothing at this path" not in answer.text, (method, path)
    client.close()


def test_the_page_shows_every_operation_and_needs_nobody(shared: Server) -> None:
    described = httpx.get(f"{shared.url}/openapi.json").json()
    answer = httpx.get(f"{shared.url}/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    assert not re.findall(r"(?:src|href)=['\"]?https?:", answer.text)
    assert len(answer.content) < 100_000
    for path in described["paths"]:
        assert f"<code>{path}</code>" in answer.text
