"""The reference network is the one the figures speak of, and the service can load it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from artifacts.model import load
from artifacts.store import Store
from benchmarks import images, reference


def test_it_has_the_parameters_it_says() -> None:
    graph = onnx.load_from_string(reference.build()).graph
    floats = [w for w in graph.initializer if w.name.endswith((".weight", ".bias"))]
    assert sum(int(np.prod(w.dims)) for w in floats) == reference.PARAMETERS


def test_it_is_the_same_every_time() -> None:
    assert reference.build() == reference.build()


def test_published_it_is_live_and_answers_as_in_process(tmp_path: Path) -> None:
    model, shown = reference.build(), images.load(20)
    reference.publish(tmp_path, model, shown.pixels)
    store = Store(tmp_path)
    name, version = store.resolve(reference.NAME)
    served = load(store.folder(name, version), execution_provider="cpu").predict(shown.pixels)
    wanted = reference.session(model).run(["probabilities"], {"images": shown.pixels})[0]
    assert np.array_equal(served.probabilities, wanted)


def test_a_thousand_images_are_a_thousand_files() -> None:
    shown = images.load()
    assert len(set(shown.files)) == images.COUNT
