"""A trained network -> one ONNX graph with all arithmetic in it -> a published version."""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxscript.optimizer
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from artifacts.manifest import Input, Manifest
from artifacts.model import Model, from_bytes
from artifacts.store import Store
from training import classical, nets
from training.calibrate import Calibration
from training.data import Images
from training.datasets import Dataset
from training.evaluate import measure
from training.nets import Network
from training.recipe import Recipe

OPSET = 20  # IR version 10: both are read by ONNX Runtime 1.20, the oldest we support
IR_VERSION = 10
BATCHES = (1, 2, 7, 32)  # sizes at which the graph is compared with torch
TOLERANCE = 2e-5  # largest difference of a probability
ESTIMATOR_TOLERANCE = 1e-4  # scikit-learn computes in double precision, the graph in single
HEAVY = 1_000_000_000  # multiply-accumulates: beyond, test images are given every core, or a GPU
SAMPLES = 20  # golden samples, the same number of each class


class ExportFailed(Exception):
    """The graph does not do what the network does, or does it too badly to be published."""


@dataclass(frozen=True)
class Draft:
    """A graph that was compared with its network, ready to be measured."""

    model: bytes
    manifest: Manifest
    samples: dict[str, NDArray[Any]]


class Served(nn.Module):
    """uint8[N, H, W] or uint8[N, H, W, 3] -> calibrated probabilities and energy."""

    temperature: Tensor

    def __init__(self, net: Network, temperature: float) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("temperature", torch.tensor(temperature))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = images.to(torch.float32) / 255
        x = x.unsqueeze(1) if images.ndim == 3 else x.permute(0, 3, 1, 2)
        scaled = self.net(x) / self.temperature
        return scaled.softmax(dim=1), -self.temperature * scaled.logsumexp(dim=1)


def draft(
    net: Network,
    recipe: Recipe,
    dataset: Dataset,
    calibration: Calibration,
    images: Images,
    provenance: dict[str, Any],
) -> Draft:
    """Export, and compare with torch on `images` at several batch sizes. Raises ExportFailed."""
    served = Served(net.cpu().eval(), calibration.temperature).eval()
    example = torch.from_numpy(images.pixels[:1])
    channels_first = (1, dataset.shape[2] if len(dataset.shape) == 3 else 1, *dataset.shape[:2])
    manifest = manifest_for(
        recipe,
        dataset,
        calibration,
        provenance,
        parameters=nets.parameters(net),
        macs=nets.multiply_accumulates(net, torch.zeros(channels_first)),
    )
    model = describe(to_onnx(served, example), manifest)
    loaded = from_bytes(model, manifest, execution_provider="cpu")
    compare(loaded, served, images.pixels)
    return Draft(model, manifest, golden(loaded, images))


def draft_estimator(
    estimator: Any,
    recipe: Recipe,
    dataset: Dataset,
    calibration: Calibration,
    images: Images,
    provenance: dict[str, Any],
) -> Draft:
    """The same for a scikit-learn classifier, compared with scikit-learn. Raises ExportFailed."""
    manifest = manifest_for(
        recipe,
        dataset,
        calibration,
        provenance,
        parameters=classical.size_of(estimator),
        macs=classical.macs_of(estimator),
    )
    model = describe(classical.to_onnx(estimator, dataset.shape), manifest)
    loaded = from_bytes(model, manifest, execution_provider="cpu")
    for size in BATCHES:
        batch = images.pixels[:size]
        chances = estimator.predict_proba(classical.flat(batch))
        away = float(np.abs(loaded.predict(batch).probabilities - chances).max())
        if not away <= ESTIMATOR_TOLERANCE:
            raise ExportFailed(
                f"{recipe.name}: at batch {size} graph and scikit-learn differ by {away:.2g}, at "
                f"most {ESTIMATOR_TOLERANCE:g} is allowed"
            )
    return Draft(model, manifest, golden(loaded, images))


def manifest_for(
    recipe: Recipe,
    dataset: Dataset,
    calibration: Calibration,
    provenance: dict[str, Any],
    *,
    parameters: int,
    macs: int,
) -> Manifest:
    """A manifest without figures; a model that has no energy has no threshold for it either."""
    return Manifest(
        name=recipe.name,
        task=dataset.task,
        labels=dataset.labels,
        input=input_of(dataset),
        outputs=("probabilities",) if calibration.alien is None else ("probabilities", "energy"),
        uncertain=calibration.uncertain,
        alien=calibration.alien,
        quantiles=calibration.quantiles,
        references=calibration.references,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        parameters=parameters,
        macs=macs,
        test={},
        provenance=provenance,
    )


def publish(draft: Draft, recipe: Recipe, test: Images, store: Store) -> Manifest:
    """Measure through `artifacts.model`, and publish unless the recipe asks for more.

    Raises ExportFailed below the recipe's `min_accuracy`; store.ReadOnly, BadArtifact.
    """
    heavy = draft.manifest.macs > HEAVY
    model = from_bytes(
        draft.model,
        draft.manifest,
        execution_provider="auto" if heavy else "cpu",
        threads=(os.cpu_count() or 1) if heavy else 1,
    )
    figures = measure(model, test)
    if figures["accuracy"] < recipe.min_accuracy:
        raise ExportFailed(
            f"{recipe.name}: {figures['accuracy']:.2%} of the test images are right, the recipe "
            f"wants {recipe.min_accuracy:.2%}; not published"
        )
    return store.publish(draft.model, replace(draft.manifest, test=figures), draft.samples)


def input_of(dataset: Dataset) -> Input:
    """The manifest's input for a data set's images."""
    return Input(
        height=dataset.shape[0],
        width=dataset.shape[1],
        mode="RGB" if len(dataset.shape) == 3 else "L",
        canonicaliser=dataset.canonicaliser,
    )


def to_onnx(served: Served, example: Tensor) -> onnx.ModelProto:
    """The graph, its initialisers named like the network's parameters: see `weights`.

    Constants are folded, norms are not: ONNX Runtime fuses those by itself, and unfused they let
    training continue from the file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter, about its own dependencies
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            served,
            (example.repeat(2, *(1,) * (example.ndim - 1)),),  # a batch of 1 would become fixed
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["images"],
            output_names=["probabilities", "energy"],
            opset_version=OPSET,
            optimize=False,
            verbose=False,
        )
        assert program is not None
        onnxscript.optimizer.fold_constants(program.model)
        onnxscript.optimizer.remove_unused_nodes(program.model)
    graph = onnx_ir.to_proto(program.model)
    for node in graph.graph.node:
        del node.metadata_props[:]  # the exporter's notes, among them paths of this machine
        node.doc_string = ""
    return graph


def describe(graph: onnx.ModelProto, manifest: Manifest) -> bytes:
    """The graph's bytes, with the facts that are known before anything is measured."""
    graph.ir_version = IR_VERSION
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, manifest.static_facts())
    onnx.checker.check_model(graph)
    data: bytes = graph.SerializeToString(deterministic=True)
    return data


def compare(model: Model, served: Served, pixels: NDArray[np.uint8]) -> None:
    """Raises ExportFailed where ONNX Runtime and torch differ on real images."""
    for size in BATCHES:
        batch = pixels[:size]
        with torch.no_grad():
            chances, energy = (t.numpy() for t in served(torch.from_numpy(batch)))
        outputs = model.predict(batch)
        assert outputs.energy is not None
        scale = np.maximum(1.0, np.abs(energy))
        away = max(
            float(np.abs(outputs.probabilities - chances).max()),
            float((np.abs(outputs.energy - energy) / scale).max()),
        )
        if not away <= TOLERANCE:
            raise ExportFailed(
                f"{model.manifest.name}: at batch {size} graph and torch differ by {away:.2g}, "
                f"at most {TOLERANCE:g} is allowed"
            )


def golden(model: Model, images: Images) -> dict[str, NDArray[Any]]:
    """Inputs, the first few of each class, and the answers that loading will expect to them."""
    classes = len(model.manifest.classes)
    each = max(1, SAMPLES // classes)
    rows = np.concatenate([np.flatnonzero(images.labels == k)[:each] for k in range(classes)])
    chosen = np.ascontiguousarray(images.pixels[rows])
    outputs = model.predict(chosen)
    samples: dict[str, NDArray[Any]] = {"images": chosen, "probabilities": outputs.probabilities}
    if outputs.energy is not None:
        samples["energy"] = outputs.energy
    return samples


def weights(model: bytes) -> dict[str, Tensor]:
    """The network's state in an exported file, to continue training from or to teach with."""
    graph = onnx.load_from_string(model).graph
    return {
        tensor.name.removeprefix("net."): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in graph.initializer
        if tensor.name.startswith("net.")
    }
