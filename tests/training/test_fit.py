"""The loop: what it keeps, when it stops, and which checkpoints it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.small import parts
from training.checkpoint import CHECKPOINT, HISTORY, BadCheckpoint
from training.fit import begin, device_for, fit, to_tensors
from training.muon import orthogonal
from training.nets import build
from training.optimizers import learning_rate, optimizers_for
from training.recipe import Dense, Recipe
from training.recipes import RECIPES

MLP = replace(RECIPES["mnist-mlp256x2"], net=Dense(hidden=(32,)), epochs=3, batch_size=32)


def test_a_run_learns_and_writes_one_line_for_each_epoch(tmp_path: Path) -> None:
    run = fit(replace(MLP, epochs=10), parts("mnist", 150), tmp_path, device="cpu")
    lines = [json.loads(line) for line in (tmp_path / HISTORY).read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 11))
    assert lines[-1]["train_loss"] < lines[0]["train_loss"] * 0.75
    assert run.history[-1]["validation_accuracy"] > 0.5


def test_a_run_stops_when_validation_no_longer_improves_and_keeps_the_best(tmp_path: Path) -> None:
    recipe = replace(MLP, epochs=200, patience=3, peak_lr=5e-3)
    run = fit(recipe, parts("mnist", 150), tmp_path, device="cpu")
    assert len(run.history) == run.best_epoch + 3 < 200
    best = run.best["state"]
    assert all(torch.equal(value, best[key]) for key, value in run.average.state_dict().items())


def test_a_run_starts_from_given_weights(tmp_path: Path) -> None:
    images = parts("mnist", 150)
    first = fit(MLP, images, tmp_path / "first", device="cpu")
    pixels, _ = to_tensors(images.train, torch.device("cpu"))
    second = begin(MLP, pixels, first.average.state_dict())
    for key, value in first.average.state_dict().items():
        assert torch.equal(second.net.state_dict()[key], value)


def test_weights_are_taken_as_they_are_where_nothing_is_to_be_learnt(tmp_path: Path) -> None:
    images = parts("mnist", 150)
    wanted = fit(MLP, images, tmp_path / "first", device="cpu").average.state_dict()
    recipe = replace(MLP, init_from="elsewhere", epochs=0)
    found = fit(recipe, images, tmp_path / "second", device="cpu", initial=wanted).average
    assert all(torch.equal(value, wanted[key]) for key, value in found.state_dict().items())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="another network"):
        fit(MLP, parts("mnist", 150), tmp_path, device="cpu", initial={"x": torch.zeros(1)})


@pytest.mark.parametrize("damage", ["absent", "truncated", "of another recipe"])
def test_a_checkpoint_that_cannot_be_continued_is_refused(tmp_path: Path, damage: str) -> None:
    images, recipe = parts("mnist", 70), MLP
    if damage != "absent":
        fit(recipe, images, tmp_path, device="cpu", stop_after=1)
    if damage == "truncated":
        path = tmp_path / CHECKPOINT
        path.write_bytes(path.read_bytes()[:1000])
    if damage == "of another recipe":
        recipe = replace(recipe, peak_lr=0.5)
    with pytest.raises(BadCheckpoint, match="--resume"):
        fit(recipe, images, tmp_path, device="cpu", resume=True)


def test_one_cycle_climbs_then_falls_to_nothing() -> None:
    recipe: Recipe = RECIPES["mnist-cnn"]
    rates = [learning_rate(recipe, share / 100) for share in range(101)]
    assert max(rates) == rates[20] == pytest.approx(recipe.peak_lr)
    assert rates[100] == 0


def test_muon_makes_every_direction_count_alike() -> None:
    matrix = torch.randn(16, 72, generator=torch.Generator().manual_seed(0))
    matrix = torch.diag(torch.logspace(0, -1, 16)) @ matrix
    stretched = torch.linalg.svdvals(orthogonal(matrix, steps=5))
    assert 0.5 < float(stretched.min()) < float(stretched.max()) < 1.5


def test_where_muon_moves_the_filters_the_head_and_the_norms_have_rates_of_their_own() -> None:
    recipe = RECIPES["cifar10-fast"]
    net = build(recipe)
    rates = {
        id(parameter): group["lr"]
        for optimizer in optimizers_for(net, recipe)
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    wanted = {
        "groups.1.convolutions.0.weight": recipe.peak_lr,
        "groups.1.norms.0.bias": recipe.norm_lr,
        "head.weight": recipe.head_lr,
        "head.bias": recipe.head_lr,
    }
    assert {name: rates[id(net.get_parameter(name))] for name in wanted} == wanted


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU there is nothing to refuse")
def test_asking_for_an_absent_gpu_is_refused() -> None:
    with pytest.raises(ValueError, match="no GPU"):
        device_for("cuda")
