"""A digit or garment comes out as its data set has it, however the picture shows it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from artifacts import digit
from artifacts.canonical import place
from artifacts.images import BadImage, decode
from artifacts.manifest import Input

DATA = Path(__file__).parents[1] / "data"
DIGIT = Input(height=28, width=28, mode="L", canonicaliser="digit")
GARMENT = Input(height=28, width=28, mode="L", canonicaliser="garment")
PHOTO = Input(height=32, width=32, mode="RGB", canonicaliser="photo")
Pixels = NDArray[np.uint8]


def real(dataset: str, count: int | None = None) -> Pixels:
    with np.load(DATA / dataset / f"{dataset}.npz") as stored:
        images: Pixels = stored["images"][:count]
    return images


def apart(one: Pixels, other: Pixels) -> float:
    """The mean difference of two placings, in grey levels."""
    return float(np.abs(one.astype(int) - other).mean())


def nearest(image: Pixels, target: Pixels, wanted: Input = DIGIT) -> float:
    return min(apart(each, target) for each in place(image, wanted).candidates)


def drawn(shapes: list[tuple[float, ...]], size: int = 200, width: int = 14) -> Pixels:
    sheet = Image.new("L", (size, size), 255)
    for shape in shapes:
        ImageDraw.Draw(sheet).line([size * each for each in shape], fill=0, width=width)
    return np.asarray(sheet)


SEVEN = (0.3, 0.2, 0.7, 0.2, 0.45, 0.8)


def test_every_mnist_image_passes_bit_identical() -> None:
    for image in real("mnist"):
        placed = place(image, DIGIT)
        assert len(placed.candidates) == 1
        assert np.array_equal(placed.candidates[0], image)


def test_every_fashion_mnist_image_passes_bit_identical() -> None:
    for image in real("fashion-mnist"):
        placed = place(image, GARMENT)
        assert len(placed.candidates) == 1
        assert np.array_equal(placed.candidates[0], image)


def test_an_image_in_own_form_stays_so_through_every_way_to_store_it() -> None:
    image = real("mnist", 1)[0]
    for mode, kind in (
        ("L", "BMP"),
        ("RGB", "PNG"),
        ("RGBA", "PNG"),
        ("P", "GIF"),
        ("RGB", "TIFF"),
    ):
        file = io.BytesIO()
        Image.fromarray(image).convert(mode).save(file, kind)
        assert np.array_equal(place(decode(file.getvalue()), DIGIT).candidates[0], image)


def test_a_digit_dark_on_light_comes_back_light_on_dark() -> None:
    for image in real("mnist", 40):
        placed = place(255 - image, DIGIT)
        assert placed.report["polarity"] == "inverted"
        assert nearest(255 - image, image) < 1


def test_a_shifted_digit_is_put_back() -> None:
    for image in real("mnist", 40):
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        moved = np.roll(image, (-rows[0], 27 - columns[-1]), (0, 1))
        assert nearest(moved, image) < 8


@pytest.mark.parametrize("ground", [0, 255])
def test_a_wide_border_changes_nothing_much(ground: int) -> None:
    for image in real("mnist", 40):
        shown = image if ground == 0 else 255 - image
        assert nearest(np.pad(shown, 50, constant_values=ground), image) < 8


def test_a_digit_is_the_same_at_any_size() -> None:
    small, large = drawn([SEVEN], 100, 7), drawn([SEVEN], 800, 56)
    assert apart(place(small, DIGIT).candidates[0], place(large, DIGIT).candidates[0]) < 16


def test_the_light_of_a_photo_makes_no_difference() -> None:
    sheet = drawn([SEVEN])
    light = np.linspace(0.35, 1.0, 200)[None, :] * np.where(np.arange(200) > 140, 0.7, 1.0)[:, None]
    found = place(np.rint(sheet * light).astype(np.uint8), DIGIT)
    assert found.report["ground"] == "uneven"
    assert apart(found.candidates[0], place(sheet, DIGIT).candidates[0]) < 8


def test_a_page_on_a_dark_desk_is_read_for_what_is_on_it() -> None:
    page = np.pad(drawn([SEVEN]), 60, constant_values=20)
    assert apart(place(page, DIGIT).candidates[0], place(drawn([SEVEN]), DIGIT).candidates[0]) < 8


def test_a_small_digit_in_a_large_picture_is_seen_sharply() -> None:
    sheet = np.full((1000, 1000), 255, np.uint8)
    sheet[700:800, 100:200] = drawn([SEVEN], 100, 7)
    found = place(sheet, DIGIT)
    assert apart(found.candidates[0], place(drawn([SEVEN], 100, 7), DIGIT).candidates[0]) < 8
    left, top, right, bottom = found.report["box"]
    assert 100 <= left < right <= 200
    assert 700 <= top < bottom <= 800


def test_strokes_apart_that_belong_together_stay_together() -> None:
    five = drawn(
        [(0.35, 0.45, 0.35, 0.65, 0.6, 0.65, 0.6, 0.8, 0.3, 0.8), (0.35, 0.36, 0.65, 0.36)]
    )
    report = place(five, DIGIT).report
    assert "several" not in report
    assert report["box"][1] < 0.4 * 200 < 0.78 * 200 < report["box"][3]


def test_two_digits_are_said_to_be_two() -> None:
    two = np.concatenate([drawn([SEVEN]), drawn([SEVEN])], axis=1)
    report = place(two, DIGIT).report
    assert report["several"] is True
    assert len(report["boxes"]) == 2


@pytest.mark.parametrize("wanted", [DIGIT, GARMENT])
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_blank_picture_shows_nothing(wanted: Input, grey: int) -> None:
    with pytest.raises(BadImage, match=r"no (digit|garment) found: .*blank"):
        place(np.full((60, 50), grey, np.uint8), wanted)


def test_a_garment_on_white_comes_back_on_black() -> None:
    for image in real("fashion-mnist", 60):
        placed = place(255 - image, GARMENT)
        assert placed.report["polarity"] == "inverted"
        assert apart(placed.candidates[0], image) < 4


def test_a_garment_in_a_wide_picture_is_trimmed_and_centred() -> None:
    far = [
        nearest(np.pad(255 - image, 40, constant_values=255), image, GARMENT)
        for image in real("fashion-mnist", 60)
    ]
    assert np.median(far) < 1


def test_raw_only_resizes() -> None:
    sheet = drawn([SEVEN])
    placed = place(sheet, DIGIT, "raw")
    expected = Image.fromarray(sheet).resize((28, 28), Image.Resampling.BOX)
    assert np.array_equal(placed.candidates[0], np.asarray(expected))


def test_a_photo_is_its_centre_square() -> None:
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 32:96] = (10, 200, 90)
    placed = place(image, PHOTO)
    assert (placed.candidates[0] == (10, 200, 90)).all()
    assert placed.report["box"] == [32, 0, 96, 64]


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(data=st.data(), height=st.integers(1, 70), width=st.integers(1, 70), colour=st.booleans())
def test_any_picture_is_placed_or_refused(
    data: st.DataObject, height: int, width: int, colour: bool
) -> None:
    shape = (height, width, 3) if colour else (height, width)
    image = data.draw(arrays(np.uint8, shape))
    for wanted in (DIGIT, GARMENT, PHOTO):
        for way in ("auto", "raw"):
            try:
                placed = place(image, wanted, way)
            except BadImage:
                continue
            assert placed.candidates
            for candidate in placed.candidates:
                assert candidate.shape == wanted.shape
                assert candidate.dtype == np.uint8


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 10_000), height=st.integers(5, 120), width=st.integers(5, 120))
def test_noise_of_any_size_is_placed_or_refused(seed: int, height: int, width: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    for wanted in (DIGIT, GARMENT):
        try:
            placed: Any = place(image, wanted)
        except BadImage:
            continue
        assert placed.candidates[0].shape == (28, 28)


def test_own_form_wants_its_place_its_size_and_its_contrast() -> None:
    image = real("mnist", 1)[0]
    assert digit.own_form(image)
    assert not digit.own_form(np.roll(image, 2, 1))
    assert not digit.own_form(image // 2)
    assert not digit.own_form(255 - image)
    assert not digit.own_form(np.zeros((28, 28), np.uint8))
