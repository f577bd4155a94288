"""The shapes of bodies, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]


def ref(name: str) -> Record:
    """A reference to one of the schemas below."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(of: Record, at_least: int = 0) -> Record:
    """A list of `of`."""
    return {"type": "array", "items": of, **({"minItems": at_least} if at_least else {})}


def _object(required: Record, **optional: Record) -> Record:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
    }


_STRING: Record = {"type": "string"}
_INTEGER: Record = {"type": "integer"}
_COUNT: Record = {"type": "integer", "minimum": 0}
_SHARE: Record = {"type": "number", "minimum": 0, "maximum": 1}
_TRUTH: Record = {"type": "boolean"}
_BASE64: Record = {"type": "string", "contentEncoding": "base64"}
_NULLABLE: Record = {"type": ["string", "null"]}

SCHEMAS: dict[str, Record] = {
    "Problem": _object({"type": _STRING, "title": _STRING, "status": _INTEGER, "detail": _STRING}),
    "Error": _object({"error": _STRING}),
    "EncodedImages": _object({"images": array(_BASE64, 1)}),
    "Prediction": _object(
        {
            "id": _STRING | {"description": "A receipt: give it back with the true label."},
            "label": _STRING,
            "index": _COUNT,
            "confidence": _SHARE | {"description": "Calibrated: right so often."},
            "top": array(_object({"label": _STRING, "index": _COUNT, "probability": _SHARE})),
            "decision": {"type": "string", "enum": ["accept", "uncertain", "alien"]},
            "preprocessing": {"type": "object", "description": "What was done to the image."},
        },
        set=array(_STRING),
        seen=_STRING,
    ),
    "Failure": _object({"error": ref("Problem")}),
    "Classified": _object(
        {
            "model": _STRING,
            "version": _STRING,
            "predictions": array({"anyOf": [ref("Prediction"), ref("Failure")]}, 1),
        }
    ),
    "Models": _object(
        {
            "models": array(
                _object(
                    {
                        "name": _STRING,
                        "version": _NULLABLE,
                        "previous": _NULLABLE,
                        "tasks": array(_STRING),
                        "loaded": _TRUTH,
                        "execution_provider": _NULLABLE,
                        "failure": _NULLABLE,
                    }
                )
            ),
            "execution_provider_asked": _STRING,
            "execution_provider_problem": _NULLABLE,
        }
    ),
    "Label": _object(
        {"id": _STRING, "label": _STRING}, source={"type": "string", "enum": ["user", "audit"]}
    ),
    "Labelled": _object(
        {
            "id": _STRING,
            "model": _STRING,
            "version": _STRING,
            "label": _STRING,
            "predicted": _STRING,
            "correct": _TRUTH,
            "source": _STRING,
        }
    ),
    "LabelledEach": _object({"results": array({"anyOf": [ref("Labelled"), ref("Failure")]})}),
    "Server": _object({"name": _STRING, "version": _STRING, "extensions": array(_STRING)}),
    "Tensor": _object({"name": _STRING, "datatype": _STRING, "shape": array(_INTEGER)}),
    "Model": _object(
        {
            "name": _STRING,
            "versions": array(_STRING),
            "platform": _STRING,
            "inputs": array(ref("Tensor")),
            "outputs": array(ref("Tensor")),
        }
    ),
    "Inference": _object(
        {
            "inputs": array(
                _object(
                    {
                        "name": {"const": "images"},
                        "datatype": {"type": "string", "enum": ["UINT8", "BYTES"]},
                        "shape": array(_COUNT, 1),
                    },
                    data={"type": "array", "description": "Flat, or nested as the shape says."},
                    parameters=_object({}, binary_data_size=_COUNT),
                ),
                1,
            )
            | {"maxItems": 1}
        },
        id=_STRING | {"maxLength": 256},
        outputs=array(
            _object(
                {"name": _STRING},
                parameters=_object({}, binary_data=_TRUTH, classification=_COUNT),
            )
        ),
        parameters=_object(
            {},
            binary_data_output=_TRUTH,
            timeout=_COUNT | {"description": "Microseconds; can only shorten the deadline."},
            preprocess={"type": "string", "enum": ["auto", "raw"]},
        ),
    ),
    "InferenceAnswer": _object(
        {"model_name": _STRING, "model_version": _STRING, "outputs": array(ref("Tensor"))},
        id=_STRING,
    ),
    "Statistics": _object(
        {
            "model_stats": array(
                _object(
                    {
                        "name": _STRING,
                        "version": _STRING,
                        "last_inference": _COUNT,
                        "inference_count": _COUNT,
                        "execution_count": _COUNT,
                        "inference_stats": {
                            "type": "object",
                            "additionalProperties": _object({"count": _COUNT, "ns": _COUNT}),
                        },
                        "batch_stats": {"type": "array"},
                    }
                )
            )
        }
    ),
    "IndexQuery": _object({}, ready=_TRUTH),
    "IndexEntry": _object(
        {
            "name": _STRING,
            "version": _STRING,
            "state": {"type": "string", "enum": ["READY", "UNAVAILABLE"]},
            "reason": _STRING,
        }
    ),
    "Load": _object(
        {},
        parameters=_object({}, version=_STRING | {"description": "By default the live or newest."}),
    ),
    "Unload": _object({}, parameters=_object({}, unload_dependents=_TRUTH)),
    "Form": _object(
        {
            "images": array({"type": "string", "format": "binary"}, 1),
            "model": _STRING,
        },
        top_k={"type": "integer", "minimum": 1, "maximum": 1000},
        preprocess={"type": "string", "enum": ["auto", "raw"]},
    ),
    "Readiness": _object(
        {
            "status": {"type": "string", "enum": ["ready", "not ready", "draining"]},
            "models": {"type": "object", "additionalProperties": _STRING},
            "execution_provider": array(_STRING),
        }
    ),
}

RESPONSES: dict[str, Record] = {
    "Problem": {
        "description": "Not done, and why. (A request of which every image failed has an answer "
        "with an error for each.)",
        "content": {
            "application/problem+json": {"schema": ref("Problem")},
            "application/json": {"schema": {"type": "object"}},
        },
    },
    "Error": {
        "description": "Not done, and why.",
        "content": {"application/json": {"schema": ref("Error")}},
    },
}
