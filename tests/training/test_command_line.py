"""`vitrine-train` from the outside: a whole run on small data, and what it says when it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from artifacts.manifest import read
from artifacts.store import Store
from tests.training.small import little_mnist
from training import datasets
from training.__main__ import main
from training.cards import training as training_card
from training.recipes import RECIPES
from training.release import MAX_VERSION_BYTES, NotReleasable, release

NAME = "mnist-mlp256x2"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a small data set, and a recipe that asks nothing of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITRINE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("VITRINE_DATA", str(tmp_path / "data"))
    dataset = little_mnist(tmp_path / "data/mnist")
    monkeypatch.setitem(datasets.DATASETS, "mnist", dataset)
    monkeypatch.setitem(RECIPES, NAME, replace(RECIPES[NAME], min_accuracy=0, patience=0))
    return tmp_path


def test_a_run_is_published_listed_evaluated_and_released(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", NAME, "--epochs", "2", "--out", "runs/one"]) == 0
    result = json.loads((folder / "runs/one/result.json").read_text())
    store = Store(folder / "state")
    assert store.resolve(NAME) == (NAME, result["version"])
    assert main(["list"]) == 0
    assert main(["show", NAME]) == 0
    assert "256" in capsys.readouterr().out
    assert main(["evaluate", NAME]) == 0
    assert f"{NAME} {result['version']}" in capsys.readouterr().out
    (folder / "released/models").mkdir(parents=True)
    released = release(store, NAME, result["version"], folder / "released/models", as_task=True)
    inner = Store(release=folder / "released/models")
    assert inner.resolve("digits") == (NAME, released.version)


def test_a_run_resumes_and_starts_from_a_published_version(folder: Path) -> None:
    assert main(["run", NAME, "--epochs", "1", "--out", "runs/one"]) == 0
    assert main(["run", NAME, "--epochs", "1", "--out", "runs/one", "--resume"]) == 0
    assert main(["run", NAME, "--epochs", "1", "--init-from", NAME, "--out", "runs/two"]) == 0
    assert len(Store(folder / "state", release=folder / "none").versions(NAME)) == 2


def test_a_version_says_which_others_it_began_with_and_learnt_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(RECIPES[NAME], name="taught", min_accuracy=0)
    monkeypatch.setitem(RECIPES, "taught", replace(recipe, teacher="fashion-vgg16"))
    assert main(["run", "taught", "--epochs", "1", "--out", "runs/none"]) == 1
    assert "taught learns from fashion-vgg16: no live model" in capsys.readouterr().err
    assert main(["run", NAME, "--epochs", "1", "--out", "runs/one"]) == 0
    monkeypatch.setitem(RECIPES, "taught", replace(recipe, teacher=NAME, init_from=NAME))
    assert main(["run", "taught", "--epochs", "1", "--out", "runs/two"]) == 0
    store = Store(folder / "state")
    source = "@".join(store.resolve(NAME))
    manifest = read(store.folder(*store.resolve("taught")))
    assert manifest.provenance["init_from"] == manifest.provenance["teacher"] == source
    assert f"- learnt from `{source}`" in training_card(manifest)


def test_a_model_below_its_recipes_accuracy_is_not_published(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(RECIPES, NAME, replace(RECIPES[NAME], min_accuracy=0.9))
    assert main(["run", NAME, "--epochs", "1", "--out", "runs/one"]) == 1
    assert "wants 90.00%" in capsys.readouterr().err
    assert not (folder / "state/models").exists()


def test_a_version_too_large_for_the_repository_is_not_released(folder: Path) -> None:
    assert main(["run", NAME, "--epochs", "1", "--out", "runs/one"]) == 0
    store = Store(folder / "state", release=folder / "none")
    _, version = store.resolve(NAME)
    (store.folder(NAME, version) / "extra").write_bytes(bytes(MAX_VERSION_BYTES))
    (folder / "released/models").mkdir(parents=True)
    with pytest.raises(NotReleasable, match="at most 9,000,000"):
        release(store, NAME, version, folder / "released/models")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing"], "no recipe is called 'nothing'"),
        (["run", NAME, "--epochs", "0"], "epochs is 0"),
        (["run", NAME, "--resume", "--out", "runs/none"], "without --resume"),
        (["run", NAME, "--init-from", "nothing"], "no live model or task 'nothing'"),
        (["evaluate", "nothing"], "no live model or task 'nothing'"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_failure_is_one_line_that_names_it(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


def test_an_unknown_verb_is_misuse() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fly"])
    assert caught.value.code == 2


def test_help_ends_with_an_example_and_imports_no_torch() -> None:
    code = (
        "import sys, contextlib\nfrom training.__main__ import main\n"
        "with contextlib.suppress(SystemExit):\n    main(['list', '--help'])\n"
        "main(['list']); main(['show', 'mnist-cnn'])\n"
        "assert not {'torch', 'bentoml', 'sklearn'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "example:\n  vitrine-train list" in done.stdout


def test_export_works_without_bentoml() -> None:
    code = "import sys; sys.modules['bentoml'] = None; import training.export, training.train"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
