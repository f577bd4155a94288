"""What an exported scikit-learn classifier is made of, read from its graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

TREES, VECTORS = "TreeEnsembleClassifier", "SVMClassifier"


def attributes(model: bytes, kind: str) -> dict[str, Any] | None:
    """The attributes of the graph's one node of a kind; None when it has none."""
    for node in onnx.load_from_string(model).graph.node:
        if node.op_type == kind:
            return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    return None


def questions(model: bytes, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """How many branches of its trees ask about each pixel: float32[H, W]."""
    found = attributes(model, TREES)
    if found is None:
        return None
    pixels = [
        feature
        for feature, mode in zip(found["nodes_featureids"], found["nodes_modes"], strict=True)
        if mode != b"LEAF"
    ]
    counts = np.bincount(pixels, minlength=int(np.prod(shape))).astype(np.float32)
    by_pixel: NDArray[np.float32] = counts.reshape(*shape[:2], -1).sum(axis=2)
    return by_pixel


def support_vectors(model: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The training images that the decision rests on: uint8[N, *shape]."""
    found = attributes(model, VECTORS)
    if found is None:
        return None
    vectors = np.array(found["support_vectors"], np.float32).reshape(-1, *shape)
    return np.rint(vectors * 255).clip(0, 255).astype(np.uint8)


def summary(model: bytes) -> list[tuple[str, str]]:
    """Its size in the terms of its kind."""
    if (trees := attributes(model, TREES)) is not None:
        modes = trees["nodes_modes"]
        leaves = sum(mode == b"LEAF" for mode in modes)
        return [
            ("trees", f"{len(set(trees['nodes_treeids'])):,}"),
            ("branches", f"{len(modes) - leaves:,}"),
            ("leaves", f"{leaves:,}"),
        ]
    if (machine := attributes(model, VECTORS)) is not None:
        counts = machine["vectors_per_class"]
        return [
            ("kernel", machine["kernel_type"].decode()),
            ("support vectors", f"{sum(counts):,}"),
            ("fewest, most of a class", f"{min(counts):,}, {max(counts):,}"),
        ]
    return []
