"""What is measured of a model's robustness, on the committed models and a few images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from artifacts.model import Model, load
from artifacts.store import Store
from training import robustness, strangers
from training.corruptions import GARMENTS, MNIST_C_STYLE, PICTURES
from training.data import Images

DATA = Path(__file__).parents[1] / "data"


def images(dataset: str, count: int) -> Images:
    with np.load(DATA / dataset / f"{dataset}.npz") as stored:
        return Images(stored["images"][:count], stored["labels"][:count])


def live(task: str) -> Model:
    store = Store()
    return load(store.folder(*store.resolve(task)), execution_provider="cpu")


def test_digits_are_measured_in_every_way(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"letters": strangers.letters(text="AHKMWX"), "blank": strangers.blank(5)}
    some = Images(*(part[:60] for part in vars(strangers.other_digits()["8 x 8"]).values()))
    monkeypatch.setattr(strangers, "others", lambda *_: few)
    monkeypatch.setattr(strangers, "other_digits", lambda: {"8 x 8": some})
    said: list[str] = []
    report = robustness.robustness(live("digits"), images("mnist", 12), 12, say=said.append)
    assert report["count"] == 12
    assert list(report["corruptions"]) == [*MNIST_C_STYLE, *PICTURES]
    style = report["mnist_c_style"]
    assert style["worst"] <= style["mean"] <= 1
    for name in ("inverted", "shift 6", "scale 0.5", "scale 2", "transparent"):
        assert report["corruptions"][name] >= report["clean"] - 0.09
    assert report["auroc"]["blank"] == 1
    assert report["auroc"]["letters"] > 0.7
    assert report["other_digits"]["8 x 8"] > 0.8
    assert set(PICTURES) <= set(said)
    assert json.loads(json.dumps(report)) == report
    assert "photo " in robustness.table(report)
    assert "= worst" in robustness.table(report)


def test_garments_are_measured_as_garments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "others", lambda *_: {"noise": strangers.noise(5)})
    report = robustness.robustness(live("fashion"), images("fashion-mnist", 200), 30)
    assert list(report["corruptions"]) == list(GARMENTS)
    assert report["corruptions"]["inverted"] >= report["clean"] - 0.07
    assert report["corruptions"]["white ground"] >= report["clean"] - 0.07
    assert report["false_inversions"] == {"count": 0, "of": 200, "share": 0.0}
    assert "taken for dark on light" in robustness.table(report)


def test_what_is_inverted_by_mistake_is_counted() -> None:
    garments = images("fashion-mnist", 10).pixels
    found = robustness.false_inversions(live("fashion"), [*garments[:8], *(255 - garments[8:])])
    assert found == {"count": 2, "of": 10, "share": 0.2}


def test_the_strangers_are_what_they_are_called() -> None:
    assert np.ptp(strangers.blank(5)[0]) == 0
    assert strangers.noise(5).std() > 60
    assert (strangers.letters().max((1, 2)) > 200).all()
    assert strangers.colourless(np.full((1, 2, 2, 3), 90, np.uint8)).tolist() == [[[90, 90]] * 2]


def test_the_other_digits_come_in_several_sizes() -> None:
    found = strangers.other_digits()
    assert found["8 x 8"].pixels.shape == (1797, 8, 8)
    assert {part.pixels.shape[1] for part in found.values()} == {8, 28, 64, 112}
    assert all((part.labels == found["8 x 8"].labels).all() for part in found.values())
