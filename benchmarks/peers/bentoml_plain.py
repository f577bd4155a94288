"""Plain BentoML: the service its documentation would have you write, with and without batching."""

from __future__ import annotations

import os

import bentoml
import numpy as np
import onnxruntime
from PIL.Image import Image as PILImage


def _session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # it is pinned to one core: more threads only disturb
    return onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options)


@bentoml.service(name="plain", workers=1)
class Plain:
    """One image in, its ten probabilities out."""

    def __init__(self) -> None:
        self.session = _session()

    @bentoml.api
    def classify(self, image: PILImage) -> list[float]:
        pixels = np.asarray(image.convert("L"), dtype=np.uint8)
        return self.session.run(["probabilities"], {"images": pixels[None]})[0][0].tolist()


@bentoml.service(name="batchable", workers=1)
class Batchable:
    """The same, with BentoML's own adaptive batching."""

    def __init__(self) -> None:
        self.session = _session()

    @bentoml.api(batchable=True, max_batch_size=64)
    def classify(self, image: list[PILImage]) -> list[list[float]]:
        pixels = np.stack([np.asarray(one.convert("L"), dtype=np.uint8) for one in image])
        return self.session.run(["probabilities"], {"images": pixels})[0].tolist()
