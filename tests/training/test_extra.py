"""Images from feedback, as training reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data import BadData, Images
from training.datasets import DATASETS
from training.extra import joined, load_extra, sha256

FASHION = DATASETS["fashion-mnist"]


def write(folder: Path, *rows: str, size: tuple[int, int] = (28, 28), mode: str = "L") -> Path:
    """A folder as an export leaves it; each row is path,label and each path's image exists."""
    for number, row in enumerate(rows):
        path = folder / row.partition(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, number).save(path)
    (folder / "labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    return folder


def test_images_and_their_classes_are_read_in_order(tmp_path: Path) -> None:
    write(tmp_path, "Bag/one.png,Bag", "T-shirt-top/two.png,T-shirt/top", "Bota/three.png,Bota")
    found = load_extra(tmp_path, FASHION)
    assert found.labels.tolist() == [8, 0, 9]
    assert found.pixels.shape == (3, 28, 28)
    assert found.pixels[:, 0, 0].tolist() == [0, 1, 2]


def test_extra_images_follow_the_data_sets_own() -> None:
    one = Images(np.zeros((2, 28, 28), np.uint8), np.array([1, 2], np.uint8))
    other = Images(np.ones((1, 28, 28), np.uint8), np.array([3], np.uint8))
    both = joined(one, other)
    assert both.labels.tolist() == [1, 2, 3]
    assert len(both.pixels) == 3
    assert sha256(both) != sha256(joined(other, one))


def test_what_cannot_be_learned_from_is_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"labels\.csv: missing"):
        load_extra(tmp_path, FASHION)
    with pytest.raises(BadData, match="lists no image"):
        load_extra(write(tmp_path), FASHION)
    with pytest.raises(BadData, match="'Hat' is no class of Fashion-MNIST"):
        load_extra(write(tmp_path, "a.png,Hat"), FASHION)
    with pytest.raises(BadData, match=r"a\.png: uint8\[32, 32\], expected uint8\[28, 28\]"):
        load_extra(write(tmp_path, "a.png,Bag", size=(32, 32)), FASHION)
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(BadData, match=r"a\.png: not an image"):
        load_extra(tmp_path, FASHION)
    (tmp_path / "labels.csv").write_text("file,class\na.png,Bag\n")
    with pytest.raises(BadData, match="columns path,label"):
        load_extra(tmp_path, FASHION)
