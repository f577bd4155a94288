"""The short way of reading a plain PNG never disagrees with the long one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from artifacts.png import plain_grey

SAMPLES = sorted((Path(__file__).parents[1] / "data" / "mnist").glob("*.png"))


def packed(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_read_as_pillow_reads_them(path: Path) -> None:
    found = plain_grey(path.read_bytes())
    assert found is not None
    assert np.array_equal(found, np.asarray(Image.open(path)))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9), st.randoms(use_true_random=False))
def test_any_grey_picture_reads_as_it_was(
    width: int, height: int, level: int, random: object
) -> None:
    pixels = np.random.default_rng(random.getrandbits(32)).integers(  # type: ignore[attr-defined]
        0, 256, (height, width), np.uint8
    )
    found = plain_grey(packed(Image.fromarray(pixels), compress_level=level))
    assert found is not None
    assert np.array_equal(found, pixels)


@given(st.binary(max_size=8), st.integers(0, 400), st.integers(0, 7))
def test_a_damaged_file_is_left_to_the_long_way(tail: bytes, at: int, bit: int) -> None:
    whole = packed(Image.linear_gradient("L").resize((28, 28)))
    at %= len(whole)
    damaged = whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :]
    assert plain_grey(damaged) is None
    assert plain_grey(whole[:at]) is None
    assert plain_grey(whole + b"x" + tail) is None


@pytest.mark.parametrize("mode", ["1", "LA", "P", "RGB", "RGBA", "I;16"])
def test_other_kinds_of_png_are_left_to_the_long_way(mode: str) -> None:
    assert plain_grey(packed(Image.new(mode, (28, 28)))) is None


def test_text_or_large_ones_are_left_to_the_long_way() -> None:
    assert plain_grey(packed(Image.new("L", (28, 28)), dpi=(72, 72))) is None
    assert plain_grey(packed(Image.new("L", (300, 300)))) is None
