from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from artifacts import digit
from artifacts.canonical import Placed, place, place_each
from artifacts.classify import Preprocess
from artifacts.images import BadImage
from artifacts.manifest import Canonicaliser, Input

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def digits() -> NDArray[np.uint8]:
    """Real digits, and the same ones moved, turned over, cut off, dimmed; and nothing at all."""
    with np.load(DATA / "mnist" / "mnist.npz") as archive:
        real = archive["images"]
    others = [np.roll(real, move, (1, 2)) for move in ((1, 0), (-2, 1), (6, 6))]
    others += [255 - real, real // 2, real[:, ::-1], np.zeros_like(real[:2])]
    return np.concatenate([real, *others])


def test_a_batch_is_told_own_form_as_each_one_is(digits: NDArray[np.uint8]) -> None:
    alone = [digit.own_form(grey) for grey in digits]
    assert digit.own_forms(digits).tolist() == alone
    assert 0 < sum(alone) < len(alone)


@pytest.mark.parametrize("canonicaliser", ["digit", "garment", "photo"])
@pytest.mark.parametrize("preprocess", ["auto", "raw"])
def test_many_are_placed_as_each_one_is(
    digits: NDArray[np.uint8], canonicaliser: Canonicaliser, preprocess: Preprocess
) -> None:
    wanted = Input(height=28, width=28, mode="L", canonicaliser=canonicaliser)
    large = np.zeros((60, 50), np.uint8)
    images = [*digits[::9], large, np.kron(digits[0], np.ones((3, 3), np.uint8))]
    for image, found in zip(images, place_each(images, wanted, preprocess), strict=True):
        if isinstance(found, BadImage):
            with pytest.raises(BadImage, match=str(found).split("(")[0]):
                place(image, wanted, preprocess)
            continue
        alone = place(image, wanted, preprocess)
        assert isinstance(found, Placed)
        assert found.report == alone.report
        assert len(found.candidates) == len(alone.candidates)
        for one, other in zip(found.candidates, alone.candidates, strict=True):
            assert np.array_equal(one, other)


def test_none_are_placed_as_none() -> None:
    wanted = Input(height=28, width=28, mode="L", canonicaliser="digit")
    assert place_each([], wanted) == []
