"""What holds for every recipe: it has its shape, learns, resumes exactly, exports faithfully.

The ImageNet architectures go through all of it at a sixteenth of their width and 32 pixels,
untrained: the way is the same, in seconds instead of hours. `test_backbones` has them whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from artifacts.model import load
from artifacts.store import Store
from tests.training.small import parts, samples
from training import classical, export
from training.calibrate import calibrate, calibrate_probabilities
from training.datasets import DATASETS
from training.fit import begin, fit, logits_of, loss_of, to_tensors
from training.nets import build
from training.optimizers import optimizers_for
from training.recipe import Backbone, Estimator, Recipe
from training.recipes import RECIPES

NETWORKS = [name for name, recipe in RECIPES.items() if not isinstance(recipe.net, Estimator)]
ESTIMATORS = [name for name in RECIPES if name not in NETWORKS]
EVERY = pytest.mark.parametrize("name", NETWORKS)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def little(name: str) -> Recipe:
    """The recipe as it is, but for a few images and epochs, and a net that tests can afford."""
    recipe = RECIPES[name]
    if isinstance(recipe.net, Backbone):
        net = replace(recipe.net, resolution=32, width=1 / 16, pretrained=False)
        recipe = replace(recipe, net=net)
    return replace(recipe, epochs=4, batch_size=32, split="standard", patience=0, min_accuracy=0)


@EVERY
def test_an_image_becomes_one_logit_for_each_class(name: str) -> None:
    dataset = DATASETS[RECIPES[name].dataset]
    pixels, _ = to_tensors(samples(dataset.name), CPU)
    with torch.no_grad():
        logits = build(little(name)).eval()(pixels[:3].float() / 255)
    assert logits.shape == (3, len(dataset.labels["en"]))


@EVERY
def test_one_step_lowers_the_loss(name: str) -> None:
    recipe = little(name)
    pixels, labels = to_tensors(parts(recipe.dataset, 64).train, CPU)
    run = begin(recipe, pixels)
    train_without_dropout(run.net)  # so that both losses are of the same function
    images = pixels.float() / 255
    optimizers = optimizers_for(run.net, recipe)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] *= 0.01  # a small step must go down, however bold the recipe is
    before = loss_of(run.net(images), labels, recipe)
    before.backward()  # type: ignore[no-untyped-call]
    for optimizer in optimizers:
        optimizer.step()
    assert loss_of(run.net(images), labels, recipe).item() < before.item()


@EVERY
def test_a_batch_can_be_learnt_by_heart(name: str) -> None:
    recipe = little(name)
    pixels, labels = to_tensors(parts(recipe.dataset, 20).train, CPU)
    net = begin(recipe, pixels).net
    train_without_dropout(net)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=3e-3)
    images = pixels.float() / 255
    for _ in range(300):
        logits = net(images)
        if bool((logits.argmax(1) == labels).all()):
            return
        optimizer.zero_grad()
        loss_of(logits, labels, recipe).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    pytest.fail("20 images were not learnt in 300 steps")


@EVERY
def test_a_resumed_run_ends_as_if_it_had_never_stopped(name: str, tmp_path: Path) -> None:
    recipe, images = little(name), parts(RECIPES[name].dataset, 70)
    whole = fit(recipe, images, tmp_path / "whole", device="cpu")
    fit(recipe, images, tmp_path / "halves", device="cpu", stop_after=2)
    resumed = fit(recipe, images, tmp_path / "halves", device="cpu", resume=True)
    for ours, theirs in ((whole.net, resumed.net), (whole.average, resumed.average)):
        for key, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[key]), key
    assert [{**epoch, "seconds": 0} for epoch in whole.history] == [
        {**epoch, "seconds": 0} for epoch in resumed.history
    ]


@EVERY
def test_the_published_model_answers_as_the_network_does(name: str, tmp_path: Path) -> None:
    recipe = little(name)
    images = parts(recipe.dataset, 70)
    pixels, _ = to_tensors(images.train, CPU)
    net = begin(recipe, pixels).average
    logits = logits_of(net, images.validation)
    found = calibrate(
        calibration=(logits, images.validation.labels),
        validation=(logits, images.validation.labels),
        pixels=images.validation.pixels,
        uncertain_rate=0.1,
        alien_rate=0.1,
    )
    dataset = DATASETS[recipe.dataset]
    draft = export.draft(net, recipe, dataset, found, images.validation, {"recipe": name})
    store = Store(tmp_path, release=tmp_path / "none")
    manifest = export.publish(draft, recipe, images.validation, store)
    served = load(store.folder(name, manifest.version), execution_provider="cpu")
    answers = served.predict(images.validation.pixels)
    wanted = torch.from_numpy(logits / found.temperature).softmax(1).numpy()
    assert abs(answers.probabilities - wanted).max() < 2e-5
    again = build(recipe)
    again.load(export.weights(draft.model))
    assert abs(logits_of(again, images.validation) - logits).max() < 1e-4


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_published_estimator_answers_as_scikit_learn_does(name: str, tmp_path: Path) -> None:
    recipe = replace(RECIPES[name], min_accuracy=0)
    images = parts(recipe.dataset, 150)
    estimator = classical.fit_estimator(recipe, images.train)
    wanted = estimator.predict_proba(classical.flat(images.validation.pixels))
    found = calibrate_probabilities(
        calibration=(wanted, images.validation.labels),
        validation=wanted,
        pixels=images.validation.pixels,
        uncertain_rate=0.1,
    )
    dataset = DATASETS[recipe.dataset]
    draft = export.draft_estimator(estimator, recipe, dataset, found, images.validation, {})
    store = Store(tmp_path, release=tmp_path / "none")
    manifest = export.publish(draft, recipe, images.validation, store)
    assert manifest.alien is None
    served = load(store.folder(name, manifest.version), execution_provider="cpu")
    answers = served.predict(images.validation.pixels)
    assert answers.energy is None
    assert np.abs(answers.probabilities - wanted).max() < 1e-4


def train_without_dropout(net: torch.nn.Module) -> None:
    net.train()
    for layer in net.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.eval()
