"""Reports: a page that needs no other file, with all that a colleague would ask for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artifacts.store import Store
from tests.training.small import at_work_in
from training import classical, drawings, estimators, figures
from training.__main__ import main
from training.anatomy import blocks_of, dissect, filters
from training.data import Images
from training.datasets import DATASETS
from training.nets import build, multiply_accumulates, parameters
from training.page import Section, Table, page
from training.recipe import Airbench, Convolutional, Dense, Estimator
from training.recipes import RECIPES

NAME = "mnist-mlp256x2"
PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with one short run in it, whose report was written."""
    path = tmp_path_factory.mktemp("report")
    with at_work_in(path) as patch:
        patch.setitem(RECIPES, NAME, replace(RECIPES[NAME], min_accuracy=0, patience=0))
        assert main(["run", NAME, "--epochs", "2", "--out", "run"]) == 0
        assert main(["report", "run", "--image", "3"]) == 0
        yield path


def test_a_report_is_one_page_that_needs_nothing_else(folder: Path) -> None:
    text = (folder / "run/report.html").read_text(encoding="utf-8")
    for heading in (
        *("In short", "Class by class", "Confusion matrix", "The first 20 test images"),
        *("The most confident mistakes", "Confidence", "The data", "Learning curves"),
        *("The network", "What the first layer looks for", "One image, layer by layer"),
    ):
        assert f">{heading}" in text
    assert text.count("data:image/png;base64,") == len(list((folder / "run").glob("*.png"))) >= 11
    assert "http://" not in text
    assert "https://" not in text
    assert "prefers-color-scheme:dark" in text


def test_a_report_counts_errors_and_names_the_worst_class_by_each_figure(folder: Path) -> None:
    test = json.loads((folder / "run/result.json").read_text())["test"]
    text = (folder / "run/report.html").read_text(encoding="utf-8")
    assert f"{test['count'] - test['correct']:,} errors" in text
    worst = min(test["classes"], key=lambda entry: float(entry["recall"]))
    assert f"by recall {worst['label']} ({worst['recall']:.4f})" in text


@pytest.mark.usefixtures("folder")
def test_a_report_that_cannot_be_written_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "nothing"]) == 1
    assert "no finished run" in capsys.readouterr().err
    assert main(["report", "run", "--image", "200"]) == 1
    assert "no test image 200" in capsys.readouterr().err


@pytest.mark.parametrize(
    "net",
    [
        Dense(hidden=(16, 12), activation="sigmoid", dropout=(0, 0.5), standardise=True),
        Airbench(widths=(8, 16), depth=3),
        Convolutional(filters=(4,), kernel=3, padded=True, norm=True, hidden=(8,)),
    ],
)
def test_a_dissected_network_has_all_its_parameters_products_and_pictures(
    net: Dense | Airbench | Convolutional,
) -> None:
    built = build(replace(RECIPES[NAME], net=net))
    image = torch.rand(1, 1, 28, 28)
    layers = dissect(built, image)
    assert sum(layer.parameters for layer in layers) == parameters(built)
    assert sum(layer.macs for layer in layers) == multiply_accumulates(built, image)
    with torch.no_grad():
        np.testing.assert_allclose(layers[-1].output, built(image)[0].numpy(), atol=1e-6)
    blocks = blocks_of(layers)
    found = filters(built, (1, 28, 28))
    assert found is not None
    for picture in (
        drawings.diagram(blocks),
        drawings.first_filters(found),
        drawings.feature_maps(blocks, tuple("0123456789")),
    ):
        assert picture.startswith(PNG)


def test_a_colour_network_shows_its_image_and_filters_in_colour() -> None:
    built = build(RECIPES["cifar10-lenet"])
    found = filters(built, (3, 32, 32))
    assert found is not None
    assert found.shape == (6, 3, 3, 3)
    assert drawings.first_filters(found).startswith(PNG)
    blocks = blocks_of(dissect(built, torch.rand(1, 3, 32, 32)))
    assert drawings.feature_maps(blocks, DATASETS["cifar10"].labels["pt"]).startswith(PNG)


def test_a_classifier_of_scikit_learn_says_what_it_asks_and_rests_on() -> None:
    rng = np.random.default_rng(0)
    images = Images(rng.integers(0, 256, (60, 28, 28), np.uint8), np.arange(60, dtype=np.uint8) % 3)

    def fitted(kind: Estimator) -> Any:
        return classical.fit_estimator(replace(RECIPES["fashion-tree"], net=kind), images)

    def exported(estimator: Any) -> bytes:
        data: bytes = classical.to_onnx(estimator, (28, 28)).SerializeToString()
        return data

    both = fitted(Estimator(kind="tree")), fitted(Estimator(kind="svm"))
    tree, machine = map(exported, both)
    assert classical.macs_of(both[0]) == 0, "trees only compare"
    asked = estimators.questions(tree, (28, 28))
    assert asked is not None
    assert dict(estimators.summary(tree))["branches"] == f"{int(asked.sum())}"
    assert drawings.asked_pixels(asked).startswith(PNG)
    vectors = estimators.support_vectors(machine, (28, 28))
    assert vectors is not None
    assert classical.macs_of(both[1]) == vectors.size
    assert any((vectors[0] == image).all() for image in images.pixels)
    assert estimators.questions(machine, (28, 28)) is None


def test_pictures_of_answers_stand_perfect_and_hopeless_models() -> None:
    labels = np.arange(40, dtype=np.uint8) % 4
    perfect = np.eye(4, dtype=np.float32)[labels]
    for chances in (perfect, perfect[:, ::-1].copy(), np.full((40, 4), 0.25, np.float32)):
        assert figures.reliability(chances, labels).startswith(PNG)
        assert figures.risk_coverage(chances, labels).startswith(PNG)
    matrix = np.diag([10, 10, 10, 10])
    assert figures.confusion(matrix, ("a", "b", "c", "d")).startswith(PNG)


def test_a_page_escapes_what_it_is_told() -> None:
    table = Table(("<i>", "n"), (("a & b", "3"),))
    text = page("<b>", "v", [Section("<u>", "1 < 2", table, code="<pre>")])
    for raw in ("<b>", "<u>", "<i>", "1 < 2", "a & b"):
        assert raw not in text
    assert "a &amp; b" in text


def test_what_a_run_leaves_names_its_recipe_and_seed(folder: Path) -> None:
    result = json.loads((folder / "run/result.json").read_text())
    assert (result["recipe"], result["seed"], result["settings"]["epochs"]) == (NAME, 0, 2)
    manifest = Store(folder / "state", release=folder / "none").folder(NAME, result["version"])
    assert json.loads((manifest / "manifest.json").read_text())["provenance"]["peak_rss_mb"] > 10
