"""A toy two-class model, "bright" or "dark", written as ONNX without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from artifacts.manifest import Input, Manifest, Threshold
from artifacts.model import Outputs, from_bytes
from artifacts.store import Store

SIDE = 28


def manifest(name: str = "toy", **changes: Any) -> Manifest:
    """The toy's manifest, unpublished, with some fields changed."""
    fields: dict[str, Any] = {
        "name": name,
        "task": "light",
        "labels": {"en": ("bright", "dark"), "pt": ("claro", "escuro")},
        "input": Input(height=SIDE, width=SIDE, mode="L", canonicaliser="garment"),
        "outputs": ("probabilities", "energy"),
        "uncertain": Threshold(value=0.6, rate=0.02),
        "alien": Threshold(value=-0.1, rate=0.01),
        "quantiles": {"0.90": 0.5, "0.95": 0.6, "0.99": 0.9},
        "references": {
            "classes": [0.5, 0.5],
            "confidence": {"edges": [0.5, 0.9], "shares": [0.1, 0.2, 0.7]},
            "ink": {"edges": [0.5], "shares": [0.5, 0.5]},
        },
        "created": "2026-01-01T00:00:00Z",
        "parameters": 2,
        "macs": SIDE * SIDE,
        "test": {
            "count": 100,
            "correct": 97,
            "accuracy": 0.97,
            "interval": [0.915, 0.99],
            "ece": 0.01,
            "nll": 0.1,
            "classes": [
                {"label": "bright", "precision": 1.0, "recall": 0.94, "f1": 0.97, "support": 50},
                {"label": "dark", "precision": 0.94, "recall": 1.0, "f1": 0.97, "support": 50},
            ],
            "confusion": [[47, 3], [0, 50]],
        },
        "provenance": {"recipe": "toy", "seed": 0},
    }
    return Manifest(**(fields | changes))


def onnx_bytes(
    *, sign: float = 1.0, constant: int = 0, shape: tuple[int, ...] = (SIDE, SIDE)
) -> bytes:
    """The toy as ONNX: logits are +-(mean - 0.5) * 12 of the pixels scaled to 0..1.

    `sign=-1` swaps its opinion; `constant` is an initialiser nothing reads, so that two models
    with the same answers can have different bytes.
    """
    weights = {
        "scale": np.float32(1 / 255),
        "half": np.float32(0.5),
        "gain": np.array([[12.0 * sign, -12.0 * sign]], np.float32),
        "axes": np.array(range(1, len(shape) + 1), np.int64),
        "one": np.array([1], np.int64),
        "column": np.array([-1, 1], np.int64),
        "unused": np.int64(constant),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["real", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "half"], ["light"]),
        helper.make_node("Reshape", ["light", "column"], ["lights"]),
        helper.make_node("MatMul", ["lights", "gain"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ReduceLogSumExp", ["logits", "one"], ["sum"], keepdims=0),
        helper.make_node("Neg", ["sum"], ["energy"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", *shape])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2]),
            helper.make_tensor_value_info("energy", TensorProto.FLOAT, ["N"]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def white(count: int = 1) -> NDArray[np.uint8]:
    """Bright images: uint8[count, 28, 28]."""
    return np.full((count, SIDE, SIDE), 250, np.uint8)


def black(count: int = 1) -> NDArray[np.uint8]:
    """Dark images: uint8[count, 28, 28]."""
    return np.full((count, SIDE, SIDE), 5, np.uint8)


def samples(model: bytes, of: Manifest) -> dict[str, NDArray[Any]]:
    """Golden samples as an export would store them."""
    images = np.concatenate([white(2), black(2)])
    found: Outputs = from_bytes(model, of, execution_provider="cpu").predict(images)
    assert found.energy is not None
    return {"images": images, "probabilities": found.probabilities, "energy": found.energy}


def publish(store: Store, name: str = "toy", *, sign: float = 1.0, constant: int = 0) -> Manifest:
    """Publish a toy into a store; not activated."""
    model, facts = onnx_bytes(sign=sign, constant=constant), manifest(name)
    return store.publish(model, facts, samples(model, facts))
