"""From a mistake to a lesson: captured, labelled, exported, and learned from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from artifacts.manifest import read
from artifacts.store import Store
from service.cli import main as vitrine
from tests.serving import serving
from tests.training.small import little_mnist
from training import datasets
from training.__main__ import main as vitrine_train
from training.recipes import RECIPES

RECIPE = "mnist-mlp256x2"
SAMPLES = sorted((Path(__file__).parents[1] / "data/mnist").glob("sample_*.png"))


def test_labelled_images_come_back_as_a_training_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, tuple[str, Path]] = {}
    with (
        serving(tmp_path, VITRINE_CAPTURE="1") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        for sample in SAMPLES:
            answer = client.post("/v1/classify/digits", content=sample.read_bytes())
            receipt = answer.raise_for_status().json()["predictions"][0]["id"]
            label = sample.stem.rpartition("_")[2]
            client.post("/v1/feedback", json={"id": receipt, "label": label}).raise_for_status()
            sent[receipt] = (label, sample)
    assert len(sent) >= 10

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITRINE_STATE", "state")
    assert vitrine(["feedback", "export", "--out", "labels.csv", "--images", "lessons"]) == 0
    for receipt, (label, sample) in sent.items():
        kept = np.asarray(Image.open(tmp_path / "lessons" / label / f"{receipt}.png"))
        assert np.array_equal(kept, np.asarray(Image.open(sample)))

    monkeypatch.setitem(datasets.DATASETS, "mnist", little_mnist(tmp_path / "data/mnist"))
    monkeypatch.setitem(RECIPES, RECIPE, replace(RECIPES[RECIPE], min_accuracy=0, patience=0))
    command = ["run", RECIPE, "--epochs", "1", "--extra", "lessons", "--out", "run"]
    assert vitrine_train(command) == 0
    store = Store(tmp_path / "state")
    manifest = read(store.folder(*store.resolve(RECIPE)))
    assert manifest.provenance["extra"]["count"] == len(sent)
