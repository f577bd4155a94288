"""Any image comes out upright and 8-bit; anything else is a BadImage that tells no secrets."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from artifacts.images import BadImage, Limits, decode


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def gradient(height: int = 24, width: int = 40) -> NDArray[np.uint8]:
    rows, columns = np.indices((height, width))
    return (rows * 255 // height // 2 + columns * 255 // width // 2).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF"])
def test_a_grey_image_survives_every_lossless_format(kind: str) -> None:
    pixels = gradient()
    found = decode(encoded(Image.fromarray(pixels), kind))
    grey = found if found.ndim == 2 else found[..., 0]
    assert np.array_equal(grey, pixels)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_colours_survive_every_lossless_format(kind: str) -> None:
    pixels = np.stack([gradient(), gradient()[::-1], gradient()[:, ::-1]], axis=-1)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert np.array_equal(decode(encoded(Image.fromarray(pixels), kind, **options)), pixels)


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    pixels = gradient()
    assert np.array_equal(
        decode(encoded(Image.fromarray(pixels.astype("<u2") * 257), "PNG")), pixels
    )
    assert np.array_equal(
        decode(encoded(Image.fromarray(pixels.astype("<u2") * 257), "TIFF")), pixels
    )


def test_floats_from_nought_to_one_are_light() -> None:
    pixels = gradient()
    found = decode(encoded(Image.fromarray((pixels / 255).astype(np.float32)), "TIFF"))
    assert np.array_equal(found, pixels)


def test_a_palette_a_bilevel_and_a_cmyk_image_are_read() -> None:
    half = np.repeat([[0], [255]], 12, 0).repeat(40, 1).reshape(24, 40).astype(np.uint8)
    assert np.array_equal(decode(encoded(Image.fromarray(half).convert("1"), "PNG")), half)
    palette = Image.fromarray(half).convert("P")
    assert np.array_equal(decode(encoded(palette, "PNG"))[..., 0], half)
    ink = Image.fromarray(np.stack([half] * 3, -1)).convert("CMYK")
    assert np.abs(decode(encoded(ink, "JPEG", quality=95))[..., 1].astype(int) - half).mean() < 4


@pytest.mark.parametrize(("ink", "ground"), [(0, 255), (255, 0)])
def test_a_stroke_on_a_transparent_ground_stays_visible(ink: int, ground: int) -> None:
    layer = np.zeros((40, 40, 4), np.uint8)
    layer[..., :3] = ink
    layer[8:32, 18:22, 3] = 255
    found = decode(encoded(Image.fromarray(layer), "PNG"))
    assert (found[20, 20] == ink).all()
    assert (found[0, 0] == ground).all()


def test_a_page_with_a_transparent_margin_keeps_its_own_ground() -> None:
    layer = np.zeros((60, 60, 4), np.uint8)
    layer[5:55, 5:55] = (240, 240, 240, 255)
    layer[15:45, 28:32] = (0, 0, 0, 255)
    assert (decode(encoded(Image.fromarray(layer), "PNG"))[0, 0] == 240).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_each_exif_turn_is_undone(kind: str) -> None:
    pixels = gradient(64, 96)
    turns = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.T,
        6: pixels.T[::-1],
        7: pixels[::-1, ::-1].T,
        8: pixels.T[:, ::-1],
    }
    for orientation, stored in turns.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = Image.fromarray(np.ascontiguousarray(stored))
        found = decode(encoded(image, kind, exif=exif)).astype(int)
        grey = found if found.ndim == 2 else found[..., 0]
        assert grey.shape == pixels.shape
        assert np.abs(grey - pixels).mean() < 6


def test_the_first_frame_of_an_animation_is_shown() -> None:
    dark, light = Image.new("L", (20, 20), 30), Image.new("L", (20, 20), 220)
    for kind in ("GIF", "WEBP", "TIFF"):
        found = decode(encoded(dark, kind, save_all=True, append_images=[light]))
        assert abs(int(found.reshape(-1)[0]) - 30) < 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_large_image_is_reduced_to_what_is_enough(kind: str) -> None:
    found = decode(encoded(Image.fromarray(gradient(1200, 2000)), kind), Limits(enough=300))
    assert found.shape[:2] == (300, 500)
    assert found.min() < 10 < 240 < found.max()


def test_more_pixels_than_allowed_are_refused_before_they_are_decoded() -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    claim = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"x"))
    with pytest.raises(BadImage, match=r"10000 x 10000.*at most 50,000,000"):
        decode(claim + chunk(b"IEND", b""))


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"not an image", b"<svg/>", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(BadImage):
        decode(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_truncated_image_is_refused_without_telling_secrets(kind: str) -> None:
    data = encoded(Image.fromarray(np.stack([gradient(90, 90)] * 3, -1)), kind)
    with pytest.raises(BadImage) as caught:
        decode(data[: len(data) // 2])
    message = str(caught.value)
    assert "0x" not in message
    assert "/" not in message
    assert "PIL" not in message


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"]),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=12),
    keep=st.floats(0.1, 1.0),
)
def test_damaged_bytes_give_pixels_or_a_bad_image(
    kind: str, edits: list[tuple[int, int]], keep: float
) -> None:
    data = bytearray(encoded(Image.fromarray(gradient()), kind))
    for place, value in edits:
        data[place % len(data)] = value
    try:
        found = decode(bytes(data[: max(1, int(len(data) * keep))]), Limits(max_pixels=1_000_000))
    except BadImage:
        return
    assert found.dtype == np.uint8
    assert found.ndim in (2, 3)
