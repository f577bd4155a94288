"""A search: what it tries, what it refuses, and that it goes on where it was stopped."""

from __future__ import annotations

import fcntl
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tests.training.small import little_mnist, parts
from training import datasets, search, spaces
from training.__main__ import main
from training.datasets import MNIST
from training.recipe import BadRecipe, Convolutional, Recipe
from training.recipes import RECIPES
from training.search import JOURNAL, REFUSED, BadStudy, Options, base_of, decided, values_of
from training.spaces import SPACES, Range, Space, with_values
from training.studies import source, write

DENSE = Space(
    name="little",
    summary="",
    recipe="mnist-mlp256x2",
    fields={"peak_lr": Range(low=1e-4, high=1e-2, log=True), "net.hidden": ((16,), (32,))},
    epochs=2,
    trials=3,
)
GRID = replace(
    DENSE, recipe="little-lenet", fields={"peak_lr": (0.01, 0.001), "net.kernel": (3, 5)}, trials=0
)
LENET = Recipe(
    name="little-lenet",
    summary="",
    dataset="mnist",
    net=Convolutional(filters=(2, 4, 4), kernel=3, hidden=(16,)),
    min_accuracy=0,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with 500 images to train on, and none to test with."""
    monkeypatch.chdir(tmp_path)
    dataset = little_mnist(tmp_path / "data/mnist", count=560)
    for file in MNIST.test:
        (tmp_path / f"data/mnist/{file.name}.gz").unlink()
    monkeypatch.setitem(datasets.DATASETS, "mnist", dataset)
    monkeypatch.setitem(RECIPES, LENET.name, LENET)
    monkeypatch.setitem(spaces.SPACES, DENSE.name, DENSE)
    return tmp_path


def outcome(study: optuna.Study) -> list[Any]:
    """What the trials of a study came to, in their order."""
    return [(t.params, t.state, t.intermediate_values, t.value) for t in decided(study)]


def test_a_search_leaves_a_table_pictures_and_a_recipe(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["search", "little", "--trials", "2", "--images", "400", "--device", "cpu"]
    assert main(command) == 0
    first = capsys.readouterr()
    assert "2 trials of mnist-mlp256x2, 2 epochs each: 2 measured" in first.out
    assert "net=Dense(hidden=(" in first.out
    assert "trial 2 of 2: peak_lr" in first.err
    out = folder / "runs/search-little"
    for name in ("history.png", "fields.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
        assert name in (out / "study.md").read_text()
    assert (out / "trial-002/history.jsonl").exists()
    assert main(command) == 0  # there are enough trials: only the table is made anew
    again = capsys.readouterr()
    assert (again.out, again.err) == (first.out, "")
    assert main([*command, "--trials", "3"]) == 0
    assert "3 trials" in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["Ctrl-C", "kill"])
@pytest.mark.parametrize("space", [DENSE, GRID], ids=["drawn", "grid"])
def test_a_search_that_is_interrupted_ends_as_if_it_had_not_been(
    folder: Path, monkeypatch: pytest.MonkeyPatch, space: Space, ending: str
) -> None:
    whole = search.search(space, Options(out=folder / "whole", device="cpu"))
    options = Options(out=folder / "parted", device="cpu")
    said: list[str] = []

    def interrupting(line: str) -> None:
        said.append(line)
        if sum("epoch 1/" in line for line in said) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(search, "say", interrupting)
    with pytest.raises(KeyboardInterrupt):
        search.search(space, options)
    if ending == "kill":  # the end of the trial is not in the journal, and half a line is
        journal = options.out / JOURNAL
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:10])
        (options.out / f"{JOURNAL}.lock").symlink_to(journal)
    said.clear()
    monkeypatch.setattr(search, "say", said.append)
    parted = search.search(space, options)
    assert outcome(parted) == outcome(whole)
    assert not any("epoch 1/" in line for line in said[:2])  # it went on in the second epoch


def test_a_grid_is_tried_once_each_and_what_cannot_work_is_refused(folder: Path) -> None:
    study = search.search(GRID, Options(out=folder / "grid", device="cpu", trials=9))
    tried = [tuple(trial.params.values()) for trial in decided(study)]
    assert sorted(tried) == [(0.001, 3), (0.001, 5), (0.01, 3), (0.01, 5)]
    for trial in decided(study):
        refused = trial.user_attrs.get(REFUSED, "")
        assert ("too small for the 2 x 2 pool" in refused) == (trial.params["net.kernel"] == 5)


def test_a_grid_of_which_nothing_is_left_has_its_page_too(folder: Path) -> None:
    options = Options(out=folder / "none", device="cpu", max_macs=1)
    study = search.search(GRID, options)
    text = write(study, GRID, base_of(GRID, options), options.out)
    assert text.count("refused:") == 4
    assert (options.out / "fields.png").exists()
    assert not (options.out / "importance.png").exists()


def test_a_net_that_is_too_large_is_not_trained(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = 784 * 16 + 16 * 10
    study = search.search(
        DENSE, Options(out=folder / "some", device="cpu", trials=4, max_macs=limit)
    )
    for trial in decided(study):
        too_large = values_of(DENSE, trial.params)["net.hidden"] == (32,)
        assert (REFUSED in trial.user_attrs) == too_large == (trial.value is None)
    assert main(["search", "little", "--trials", "2", "--max-macs", str(limit - 1)]) == 0
    assert "No trial was measured" in capsys.readouterr().out


def test_who_is_below_the_median_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "parts_for", lambda _base, _options: parts("mnist", 150))
    space = replace(DENSE, fields={"peak_lr": Range(low=1e-6, high=0.03, log=True)}, trials=8)
    study = search.search(space, Options(out=tmp_path, device="cpu", epochs=3))
    given_up = study.get_trials(states=(TrialState.PRUNED,))
    assert given_up
    assert all(len(trial.intermediate_values) == 2 for trial in given_up)
    assert study.best_params["peak_lr"] > 1e-4


def test_a_study_is_not_gone_on_with_under_other_settings(folder: Path) -> None:
    options = Options(out=folder / "study", device="cpu", trials=1)
    search.search(DENSE, options)
    with pytest.raises(BadStudy, match="other settings"):
        search.search(DENSE, replace(options, seed=1))
    with (folder / "study" / JOURNAL).open("ab") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        with pytest.raises(BadStudy, match="another search is at work"):
            search.search(DENSE, options)


def test_every_space_can_be_searched() -> None:
    for name, space in SPACES.items():
        assert space.name == name
        base = space.base()
        assert base.split == "standard"
        for path, choices in space.fields.items():
            ends = (choices.low, choices.high) if isinstance(choices, Range) else choices[:1]
            for value in ends:
                with_values(base, {path: value})


@pytest.mark.parametrize("path", ["colour", "net.colour", "peak_lr.colour"])
def test_a_field_that_is_not_there_is_refused(path: str) -> None:
    with pytest.raises(BadRecipe, match="has no field colour"):
        with_values(RECIPES["mnist-cnn"], {path: 1})


def test_an_unknown_search_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "nothing"]) == 1
    assert "no search is called 'nothing'; there are cifar10-lenet" in capsys.readouterr().err


def test_the_winners_net_is_printed_as_it_is_written() -> None:
    net = Convolutional(filters=(6, 16), kernel=3, hidden=(120, 84))
    assert source(net) == "Convolutional(filters=(6, 16), kernel=3, hidden=(120, 84))"
    assert source(replace(net)) == source(eval(source(net), {"Convolutional": Convolutional}))
