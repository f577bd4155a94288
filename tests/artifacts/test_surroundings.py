"""What is about a digit in a picture is not taken for a part of it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from artifacts.canonical import place
from artifacts.images import BadImage
from artifacts.manifest import Input

DIGIT = Input(height=28, width=28, mode="L", canonicaliser="digit")
Pixels = NDArray[np.uint8]
SEVEN = [(60, 50), (130, 50), (85, 150)]


def sheet(size: tuple[int, int] = (200, 200), at: tuple[int, int] = (0, 0)) -> Image.Image:
    """A seven on white, its own square of 200 with its corner `at`."""
    picture = Image.new("L", size, 255)
    points = [(x + at[0], y + at[1]) for x, y in SEVEN]
    ImageDraw.Draw(picture).line(points, fill=0, width=14, joint="curve")
    return picture


def seven() -> Pixels:
    return place(np.asarray(sheet()), DIGIT).candidates[0]


def away(picture: Image.Image | Pixels) -> float:
    """How far what is seen in a picture is from the seven alone, in grey levels."""
    placed = place(np.asarray(picture), DIGIT)
    assert "several" not in placed.report
    return float(np.abs(placed.candidates[0].astype(int) - seven()).mean())


def test_a_ring_around_it() -> None:
    picture = sheet()
    ImageDraw.Draw(picture).ellipse([15, 15, 185, 185], outline=0, width=6)
    assert away(picture) < 4


@pytest.mark.parametrize("margin", [0, 12])
def test_a_frame_around_it(margin: int) -> None:
    picture = sheet()
    ImageDraw.Draw(picture).rectangle([margin, margin, 199 - margin, 199 - margin], None, 0, 3)
    assert away(picture) < 4


def test_a_line_under_it() -> None:
    picture = sheet()
    ImageDraw.Draw(picture).line([30, 182, 170, 178], fill=0, width=7)
    assert away(picture) < 4


def test_a_bar_along_the_top_of_a_window() -> None:
    picture = sheet((500, 360), (150, 80))
    ImageDraw.Draw(picture).rectangle([0, 0, 499, 30], 60)
    assert away(picture) < 6


def test_a_ring_is_a_digit_when_nothing_is_in_it() -> None:
    picture = Image.new("L", (200, 200), 255)
    pen = ImageDraw.Draw(picture)
    pen.ellipse([50, 30, 150, 170], outline=0, width=12)
    alone = place(np.asarray(picture), DIGIT)
    pen.ellipse([96, 96, 104, 104], 0)  # the dot of some fonts' 0
    dotted = place(np.asarray(picture), DIGIT)
    assert dotted.report["box"] == alone.report["box"]
    assert alone.report["box"][0] < 55


def test_a_page_that_lies_askew_on_a_table() -> None:
    rng = np.random.default_rng(0)
    across = np.arange(640)[None, :] / 640
    desk = 90 + 20 * np.sin(60 * across) + rng.normal(0, 5, (480, 640))
    table = Image.fromarray(np.clip(desk, 0, 255).astype(np.uint8))
    page = sheet((300, 300), (50, 50)).point(lambda grey: 20 + grey * 0.8)
    turned = page.rotate(9, Image.Resampling.BICUBIC, expand=True)
    cut = Image.new("L", page.size, 255).rotate(9, Image.Resampling.BICUBIC, expand=True)
    table.paste(turned, (150, 60), cut)
    alone = page.rotate(9, Image.Resampling.BICUBIC, expand=True, fillcolor=224)
    wanted = place(np.asarray(alone), DIGIT).candidates[0]
    light = (np.asarray(table) * (1 - 0.3 * across)).astype(np.uint8)
    placed = place(light, DIGIT)
    assert np.abs(placed.candidates[0].astype(int) - wanted).mean() < 8
    left, top, right, bottom = placed.report["box"]
    assert 150 < left < right < 150 + turned.width
    assert 60 < top < bottom < 60 + turned.height


def test_colours_of_one_lightness() -> None:
    ink = (255 - np.asarray(sheet(), np.float32))[..., None] / 255
    red, green = np.array([220, 30, 30]), np.array([40, 120, 40])
    picture = np.rint(ink * red + (1 - ink) * green).astype(np.uint8)
    assert away(picture) < 4


def test_a_digit_of_few_pixels_in_a_large_picture() -> None:
    small = sheet().resize((36, 36), Image.Resampling.BOX)
    large = np.full((1000, 1200), 255, np.uint8)
    large[700:736, 300:336] = np.asarray(small)
    assert away(large) < 16
    left, top, right, bottom = place(large, DIGIT).report["box"]
    assert 300 <= left < right <= 336
    assert 700 <= top < bottom <= 736


def test_a_page_of_one_colour_shows_nothing() -> None:
    with pytest.raises(BadImage, match="no digit found"):
        place(np.full((900, 900, 3), (200, 180, 90), np.uint8), DIGIT)


def test_wide_strokes_that_run_off_the_picture() -> None:
    """Too wide to be told from a photo's shadows: then the picture is read both ways."""
    picture = Image.new("L", (140, 140), 255)
    ImageDraw.Draw(picture).line([(20, 10), (125, 10), (60, 150)], fill=0, width=44)
    soft = picture.filter(ImageFilter.GaussianBlur(6))
    placed = place(np.asarray(soft), DIGIT)
    plain = place(np.pad(np.asarray(soft), 30, constant_values=255), DIGIT)
    wanted = plain.candidates[0].astype(int)
    assert min(np.abs(each - wanted).mean() for each in placed.candidates) < 25


def test_a_digit_enlarged_by_repetition_is_the_same_as_before() -> None:
    small = np.asarray(sheet().resize((40, 40), Image.Resampling.BOX))
    once, more = place(small, DIGIT), place(small.repeat(7, 0).repeat(7, 1), DIGIT)
    assert np.array_equal(once.candidates[0], more.candidates[0])
    assert [7 * edge for edge in once.report["box"]] == more.report["box"]
