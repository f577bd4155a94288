"""scikit-learn's classifiers: fitted on pixels, exported behind a network's uint8 input."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from artifacts.model import INPUT
from training.data import Images
from training.recipe import Estimator, Recipe

TREES = (DecisionTreeClassifier, RandomForestClassifier)
OPSETS = {"": 15, "ai.onnx.ml": 3}  # what skl2onnx writes best, and ONNX Runtime 1.20 reads


def fit_estimator(recipe: Recipe, images: Images) -> Any:
    """A fitted classifier with `predict_proba` for float32[N, pixels] in 0..1."""
    shape = recipe.net
    assert isinstance(shape, Estimator)
    count = min(shape.images or len(images), len(images))
    chosen = images.take(np.arange(count))
    estimator = new(shape, recipe.seed)
    # Of a signed type: skl2onnx takes classes of an unsigned one for strings.
    return estimator.fit(flat(chosen.pixels), chosen.labels.astype(np.int64))


def new(shape: Estimator, seed: int) -> Any:
    if shape.kind == "tree":
        return DecisionTreeClassifier(
            max_depth=shape.max_depth, min_samples_leaf=shape.min_leaf, random_state=seed
        )
    if shape.kind == "forest":
        return RandomForestClassifier(
            n_estimators=100,
            max_depth=shape.max_depth,
            min_samples_leaf=shape.min_leaf,
            random_state=seed,
            n_jobs=-1,
        )
    # SVC's own probabilities are deprecated, and slower.
    return CalibratedClassifierCV(SVC(C=5.0, gamma="scale"), ensemble=False, cv=3)


def flat(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8[N, ...] -> float32[N, pixels] in 0..1."""
    return pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255)


def to_onnx(estimator: Any, shape: tuple[int, ...]) -> onnx.ModelProto:
    """uint8[N, *shape] -> cast, scale, flatten -> the estimator's probabilities float32[N, K]."""
    pixels = int(np.prod(shape))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # skl2onnx, about its use of scikit-learn
        model: onnx.ModelProto = convert_sklearn(
            estimator,
            initial_types=[("flat", FloatTensorType([None, pixels]))],
            options={id(estimator): {"zipmap": False}},
            target_opset=OPSETS,
        )
    graph = model.graph
    prefix = [
        helper.make_node("Cast", [INPUT], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["as_float", "white"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "flat_shape"], ["flat"]),
    ]
    nodes = [*prefix, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", *shape]))
    graph.initializer.extend(
        [
            helper.make_tensor("white", TensorProto.FLOAT, [], [255.0]),
            helper.make_tensor("flat_shape", TensorProto.INT64, [2], [-1, pixels]),
        ]
    )
    classes = len(estimator.classes_)
    del graph.output[:]
    graph.output.append(
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", classes])
    )
    return model


def size_of(estimator: Any) -> int:
    """How many numbers it holds: thresholds and leaves, or support vectors."""
    if isinstance(estimator, DecisionTreeClassifier):
        return int(estimator.tree_.node_count) * 2
    if isinstance(estimator, RandomForestClassifier):
        return sum(size_of(tree) for tree in estimator.estimators_)
    inner = estimator.calibrated_classifiers_[0].estimator
    return int(inner.support_vectors_.size)


def macs_of(estimator: Any) -> int:
    """Multiply-accumulates for one image: a kernel's distances; trees only compare."""
    return 0 if isinstance(estimator, TREES) else size_of(estimator)
