"""A version that answers: its manifest, its queue and its counts; loaded, verified and warmed."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from artifacts import model as loading
from artifacts.manifest import BadArtifact, Manifest
from service.batcher import Batcher
from service.meters import ModelMeter
from service.settings import Settings
from service.turns import Turns


class Live:
    """A version that answers: its manifest, its queue and its counts."""

    def __init__(self, model: loading.Model, turns: Turns, settings: Settings) -> None:
        self.model = model
        self.manifest: Manifest = model.manifest
        self.name = model.manifest.name
        self.version = model.manifest.version
        self.provider = model.provider
        self.meter = ModelMeter(model.manifest, model.provider)
        self.batcher = Batcher(
            turns,
            model.predict,
            max_batch=settings.max_batch,
            max_queue=settings.max_queue,
            meter=self.meter,
            # CUDA plans anew for each batch size, so it gets few of them, all planned by `warm`.
            buckets=batch_sizes(settings.max_batch) if model.provider == "cuda" else (),
        )
        self.used = time.monotonic()

    def warm(self) -> None:
        """Run every batch size once or more, so that estimates are measured and kernels planned."""
        rows = np.zeros((self.batcher.max_batch, *self.manifest.input.shape), np.uint8)
        for size in batch_sizes(self.batcher.max_batch):
            for _ in range(3):
                self.batcher.measure(rows[:size])


def batch_sizes(max_batch: int) -> list[int]:
    """The powers of two below the largest batch, and that one: what models are warmed with."""
    return [*(2**i for i in range((max_batch - 1).bit_length())), max_batch]


def load_live(folder: Path, model: str, turns: Turns, settings: Settings, device: int) -> Live:
    """The version in `folder`, which is to be one of `model`'s, ready to answer; takes its time.

    Raises BadArtifact, NoProvider.
    """
    loaded = loading.load(folder, execution_provider=settings.execution_provider, device=device)
    if loaded.manifest.name != model:
        raise BadArtifact(
            f"manifest.json: name is {loaded.manifest.name!r}, the folder is {model!r}'s"
        )
    live = Live(loaded, turns, settings)
    try:
        live.warm()
    except Exception as error:  # ONNX Runtime raises many types, its own and pybind's
        raise BadArtifact(
            f"model.onnx: a batch of images fails ({type(error).__name__}); re-export"
        ) from error
    return live
