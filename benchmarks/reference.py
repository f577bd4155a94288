"""The reference network every server runs: a small CNN, untrained, written as ONNX without torch.

conv3x3 1-32, ReLU, pool 2, conv3x3 32-64, ReLU, pool 2, 3136-128-10: 421,642 parameters and 4.2
million multiply-accumulates for one image. What it answers means nothing; what it costs is typical.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from artifacts.manifest import Input, Manifest, Threshold
from artifacts.store import Store

NAME = "reference"
PARAMETERS = 421_642
MACS = 4_241_152
CLASSES = 10
SEED = 0
OPSET, IR_VERSION = 20, 9  # what the oldest ONNX Runtime that we support reads


def build() -> bytes:
    """The bytes of model.onnx: uint8[N, 28, 28] -> probabilities float32[N, 10], energy float32[N].

    The same bytes every time.
    """
    random = np.random.default_rng(SEED)
    weights: dict[str, NDArray[Any]] = {}

    def layer(name: str, *shape: int) -> list[str]:
        scale = np.sqrt(2.0 / np.prod(shape[1:]))  # He et al. 2015: keeps activations alive
        weights[f"{name}.weight"] = random.normal(0, scale, shape).astype(np.float32)
        weights[f"{name}.bias"] = np.zeros(shape[0], np.float32)
        return [f"{name}.weight", f"{name}.bias"]

    same: dict[str, Any] = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    pool: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    node = helper.make_node
    nodes = [
        node("Unsqueeze", ["images", "one"], ["planes"]),
        node("Cast", ["planes"], ["floats"], to=TensorProto.FLOAT),
        node("Mul", ["floats", "scale"], ["x0"]),
        node("Conv", ["x0", *layer("conv1", 32, 1, 3, 3)], ["x1"], **same),
        node("Relu", ["x1"], ["x2"]),
        node("MaxPool", ["x2"], ["x3"], **pool),
        node("Conv", ["x3", *layer("conv2", 64, 32, 3, 3)], ["x4"], **same),
        node("Relu", ["x4"], ["x5"]),
        node("MaxPool", ["x5"], ["x6"], **pool),
        node("Flatten", ["x6"], ["x7"]),
        node("Gemm", ["x7", *layer("hidden", 128, 3136)], ["x8"], transB=1),
        node("Relu", ["x8"], ["x9"]),
        node("Gemm", ["x9", *layer("classes", CLASSES, 128)], ["logits"], transB=1),
        node("Softmax", ["logits"], ["probabilities"], axis=-1),
        node("ReduceLogSumExp", ["logits", "one"], ["total"], keepdims=0),
        node("Neg", ["total"], ["energy"]),
    ]
    weights["one"] = np.array([1], np.int64)
    weights["scale"] = np.array(1 / 255, np.float32)
    graph = helper.make_graph(
        nodes,
        NAME,
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 28, 28])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", CLASSES]),
            helper.make_tensor_value_info("energy", TensorProto.FLOAT, ["N"]),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def session(model: bytes) -> onnxruntime.InferenceSession:
    """A session with one thread, as every server here uses one core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def publish(state: Path, model: bytes, images: NDArray[np.uint8]) -> None:
    """Make the network the live model `reference` of the service whose state folder is `state`."""
    samples = images[:16]
    probabilities, energy = session(model).run(None, {"images": samples})
    manifest = Manifest(
        name=NAME,
        task=NAME,
        labels={language: tuple("0123456789") for language in ("en", "pt")},
        input=Input(height=28, width=28, mode="L", canonicaliser="digit"),
        outputs=("probabilities", "energy"),
        uncertain=Threshold(value=0.0, rate=0.0),
        alien=Threshold(value=1e9, rate=0.0),
        quantiles={"0.90": 1.0, "0.95": 1.0, "0.99": 1.0},
        references={
            "classes": [0.1] * CLASSES,
            "confidence": {"edges": [0.5], "shares": [0.5, 0.5]},
            "ink": {"edges": [0.5], "shares": [0.5, 0.5]},
        },
        created="2026-01-01T00:00:00Z",
        parameters=PARAMETERS,
        macs=MACS,
        test={},
        provenance={"recipe": "untrained reference network", "seed": SEED},
        notes="For measuring speed only: it was never trained.",
    )
    store = Store(state)
    golden = {"images": samples, "probabilities": probabilities, "energy": energy}
    version = store.publish(model, manifest, golden).version
    store.activate(NAME, version)
    store.point(NAME, NAME)
