"""What this service answers, as an OpenAPI 3.1 document: written by hand, tested against it."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from service.schemas import RESPONSES, SCHEMAS, array, ref

Record = dict[str, Any]

_BINARY = {"type": "string", "format": "binary"}
_NAME: Record = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "The name of a model, or of a task, which stands for the model that does it.",
    "schema": {"type": "string"},
}
_VERSION: Record = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "The live version; only that is served.",
    "schema": {"type": "string"},
}
_JSON_LENGTH: Record = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "Where binary data follow the JSON: how many bytes of JSON come first, any "
    "content encoding undone. 0: the body is nothing but pixels.",
    "schema": {"type": "integer", "minimum": 0},
}
_KEY: list[Record] = [{"key": []}, {}]
_ADMIN: list[Record] = [{"admin": []}]


def document() -> Record:
    """The whole of it."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Vitrine",
            "version": importlib.metadata.version("vitrine"),
            "summary": "Small image classifiers: digits, garments, objects.",
            "description": "Every answer carries X-Request-ID, the client's own where it sent a "
            "sane one. Errors are application/problem+json (RFC 9457), under /v2 "
            'the protocol\'s {"error": "..."}. Bodies may be compressed with gzip or deflate.',
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {"name": "v1", "description": "Images in, labels out."},
            {"name": "labels", "description": "True labels, and the accuracy they amount to."},
            {"name": "v2", "description": "The Open Inference Protocol: tensors in and out."},
            {"name": "bentoml", "description": "What bentoml.SyncHTTPClient calls."},
            {"name": "operation", "description": "For probes and Prometheus."},
        ],
        "paths": {**_V1, **_V2, **_OTHERS},
        "components": {
            "schemas": SCHEMAS,
            "responses": RESPONSES,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key of VITRINE_API_KEYS, or an admin's; needed where any "
                    "is set.",
                },
                "admin": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key of VITRINE_ADMIN_KEYS.",
                },
            },
        },
    }


def _operation(
    tag: str,
    summary: str,
    ok: Record,
    errors: tuple[int, ...] = (),
    *,
    parameters: tuple[Record, ...] = (),
    body: Record | None = None,
    security: list[Record] | None = None,
    description: str = "",
) -> Record:
    """One operation; `ok` is its 200 answer, `errors` the statuses it may have instead."""
    kind = "Error" if tag == "v2" else "Problem"
    found: Record = {"tags": [tag], "summary": summary}
    if description:
        found["description"] = description
    if parameters:
        found["parameters"] = list(parameters)
    if body is not None:
        found["requestBody"] = body
    if security is not None:
        found["security"] = security
    refused = {str(status): {"$ref": f"#/components/responses/{kind}"} for status in errors}
    return {**found, "responses": {"200": ok, **refused}}


def _json(schema: Record, description: str = "The answer.") -> Record:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _query(name: str, schema: Record, description: str) -> Record:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _body(content: Record, *, required: bool = True) -> Record:
    """A request's body, by media type."""
    return {"required": required, "content": {k: {"schema": v} for k, v in content.items()}}


_PREDICTING = (400, 401, 404, 408, 413, 415, 422, 429, 503, 504)
_FLAG = {"type": "string", "enum": ["0", "1"]}

_V1: Record = {
    "/v1/classify/{model}": {
        "post": _operation(
            "v1",
            "Classify images",
            _json(ref("Classified"), "Of several images, one at least has a prediction."),
            _PREDICTING,
            parameters=(
                _NAME,
                _query(
                    "top_k",
                    {"type": "integer", "minimum": 1, "maximum": 1000, "default": 3},
                    "How many of the likeliest classes to list.",
                ),
                _query(
                    "preprocess",
                    {"type": "string", "enum": ["auto", "raw"], "default": "auto"},
                    "raw: only resize, do not look for the subject.",
                ),
                _query(
                    "set",
                    {"type": "string", "enum": ["0.90", "0.95", "0.99"]},
                    "Add the classes that hold the true one in so large a share of images.",
                ),
                _query("seen", _FLAG, "1: add the pixels the model looked at, as a PNG."),
                _query("timing", _FLAG, "1: add a Server-Timing header."),
            ),
            body=_body(
                {
                    "image/*": _BINARY,
                    "application/octet-stream": _BINARY,
                    "multipart/form-data": {
                        "type": "object",
                        "properties": {"file": array(_BINARY, 1)},
                        "required": ["file"],
                    },
                    "application/json": ref("EncodedImages"),
                }
            ),
            security=_KEY,
        )
    },
    "/v1/models": {"get": _operation("v1", "Every model there is", _json(ref("Models")))},
    "/v1/models/{model}": {
        "get": _operation(
            "v1", "A model's manifest", _json({"type": "object"}), (404, 503), parameters=(_NAME,)
        )
    },
    "/v1/feedback": {
        "post": _operation(
            "labels",
            "Tell what an image really shows",
            _json({"anyOf": [ref("Labelled"), ref("LabelledEach")]}),
            (400, 401, 408, 409, 410, 413, 415, 422, 429, 503),
            body=_body({"application/json": {"anyOf": [ref("Label"), array(ref("Label"), 1)]}}),
            security=_KEY,
            description="`id` is that of a prediction. One label, or a list of up to 1000. The "
            "same label again is answered as before and counted once.",
        )
    },
    "/v1/models/{model}/accuracy": {
        "get": _operation(
            "labels",
            "The accuracy that labels say a version has",
            _json({"type": "object"}),
            (400, 404, 503),
            parameters=(_NAME, _query("version", {"type": "string"}, "Another than the live one.")),
        )
    },
}


def _of_model(path: str, method: str, operation: Record) -> Record:
    """An operation on a model, and the same on its live version by name."""
    parameters = [p for p in operation.get("parameters", ()) if p is not _NAME]
    return {
        f"/v2/models/{{model}}{path}": {
            method: {**operation, "parameters": [_NAME, *parameters]},
        },
        f"/v2/models/{{model}}/versions/{{version}}{path}": {
            method: {**operation, "parameters": [_NAME, _VERSION, *parameters]},
        },
    }


_INFER = _operation(
    "v2",
    "Infer",
    {
        "description": "Outputs as JSON; where one was wanted in binary, JSON with the data behind "
        "it, and Inference-Header-Content-Length.",
        "content": {
            "application/json": {"schema": ref("InferenceAnswer")},
            "application/octet-stream": {"schema": _BINARY},
        },
    },
    (400, 401, 404, 408, 413, 415, 429, 503, 504),
    parameters=(_JSON_LENGTH,),
    body=_body(
        {"application/json": ref("Inference"), "application/octet-stream": _BINARY},
    ),
    security=_KEY,
    description="The input `images` is UINT8 pixels, or BYTES: whole image files (base64 in JSON).",
)
_CHANGE = (400, 401, 403, 404, 408, 413, 415, 429, 503)

_V2: Record = {
    "/v2": {"get": _operation("v2", "What this server is", _json(ref("Server")))},
    "/v2/health/live": {"get": _operation("v2", "Alive", _json({"type": "object"}))},
    "/v2/health/ready": {
        "get": {
            **_operation("v2", "Ready", _json({"type": "object"})),
            "responses": {
                "200": _json({"type": "object"}),
                "503": _json({"type": "object"}, "Not ready, or no longer."),
            },
        }
    },
    **_of_model("/infer", "post", _INFER),
    **_of_model("", "get", _operation("v2", "A model's tensors", _json(ref("Model")), (404, 503))),
    **_of_model(
        "/ready", "get", _operation("v2", "A model answers", _json({"type": "object"}), (404, 503))
    ),
    **_of_model(
        "/config",
        "get",
        _operation("v2", "A model's configuration", _json({"type": "object"}), (404, 503)),
    ),
    **_of_model(
        "/stats",
        "get",
        _operation("v2", "What was done so far", _json(ref("Statistics")), (404, 503)),
    ),
    "/v2/models/stats": {
        "get": _operation("v2", "What was done so far, by model", _json(ref("Statistics")))
    },
    "/v2/repository/index": {
        "post": _operation(
            "v2",
            "Every published model",
            _json(array(ref("IndexEntry"))),
            (400, 408, 413, 415, 429),
            body=_body({"application/json": ref("IndexQuery")}, required=False),
        )
    },
    "/v2/repository/models/{model}/load": {
        "post": _operation(
            "v2",
            "Serve a model, or a version of it",
            {"description": "Every worker serves it."},
            _CHANGE,
            parameters=(_NAME,),
            body=_body({"application/json": ref("Load")}, required=False),
            security=_ADMIN,
            description="503 says how many workers have not followed.",
        )
    },
    "/v2/repository/models/{model}/unload": {
        "post": _operation(
            "v2",
            "Serve a model no more",
            {"description": "No worker serves it."},
            _CHANGE,
            parameters=(_NAME,),
            body=_body({"application/json": ref("Unload")}, required=False),
            security=_ADMIN,
        )
    },
}

_OTHERS: Record = {
    "/classify": {
        "post": _operation(
            "bentoml",
            "Classify files",
            _json(ref("Classified")),
            _PREDICTING,
            body=_body({"multipart/form-data": ref("Form")}),
            security=_KEY,
        )
    },
    "/livez": {"get": _operation("operation", "The process answers", _json({"type": "object"}))},
    **{
        path: {
            "get": {
                "tags": ["operation"],
                "summary": "Predictions are answered",
                "responses": {
                    "200": _json(ref("Readiness"), "They are."),
                    "503": _json(ref("Readiness"), "They are not, or soon no longer."),
                },
            }
        }
        for path in ("/readyz", "/healthz")
    },
    "/metrics": {
        "get": _operation(
            "operation",
            "Prometheus metrics of all workers",
            {
                "description": "Prometheus's text format.",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            },
        )
    },
}
