"""Untrusted bytes become an upright 8-bit image, or BadImage."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile

from artifacts.png import plain_grey

# Pillow warns about odd metadata and large sizes. The first does not matter here, the second is
# checked against our own limit; and each distinct warning is remembered for ever by `warnings`,
# which would let a client grow the process.
warnings.filterwarnings("ignore", module=r"PIL\.")

# The formats by their first bytes. Calling the format's class, and not `Image.open`, spares the
# scan over all formats, and keeps Pillow's dozens of others out of reach of untrusted bytes.
_FORMATS: tuple[tuple[bytes, str, Callable[[io.BytesIO], ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG", PngImagePlugin.PngImageFile),
    (b"\xff\xd8\xff", "JPEG", JpegImagePlugin.JpegImageFile),
    (b"RIFF", "WebP", WebPImagePlugin.WebPImageFile),
    (b"GIF87a", "GIF", GifImagePlugin.GifImageFile),
    (b"GIF89a", "GIF", GifImagePlugin.GifImageFile),
    (b"BM", "BMP", BmpImagePlugin.BmpImageFile),
    (b"II*\x00", "TIFF", TiffImagePlugin.TiffImageFile),
    (b"MM\x00*", "TIFF", TiffImagePlugin.TiffImageFile),
)
_BAND_PIXELS = 4_000_000  # large images are flattened in bands of about so many pixels
_ORIENTATION = 0x0112  # the EXIF tag: 1 to 8
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF tags


class BadImage(ValueError):
    """The bytes are no image we take. The message may be shown to a client."""


@dataclass(frozen=True)
class Limits:
    """How much an image may cost."""

    max_pixels: int = 50_000_000  # width times height as the file states them
    # An image whose shorter side is at least twice this is reduced by a whole factor while it is
    # decoded, its shorter side staying at or above this: no model here looks at more.
    enough: int = 384


def decode(data: bytes, limits: Limits = Limits()) -> NDArray[np.uint8]:
    """The image in `data`, upright and 8-bit: uint8[H, W] or uint8[H, W, 3].

    Turned by its EXIF orientation; the first frame of an animation; 16-bit scaled, transparency
    composited by `_ground_under`; large ones reduced as `limits.enough` says. The array may be
    read-only. Raises BadImage when the bytes are no image, are truncated, or exceed
    `limits.max_pixels`.
    """
    plain = plain_grey(data)
    if plain is not None and plain.size <= limits.max_pixels:
        return plain
    name, image = _open(data)
    width, height = image.size
    if width * height > limits.max_pixels:
        raise BadImage(
            f"the image is {width} x {height}, {width * height:,} pixels; "
            f"at most {limits.max_pixels:,} are accepted"
        )
    try:
        factor = _reduction(width, height, limits.enough)
        if factor > 1 and name == "JPEG":
            image.draft(None, (width // factor, height // factor))
        image.load()
        if image.mode == "L" and factor == 1 and "transparency" not in image.info:
            pixels = np.frombuffer(image.tobytes(), np.uint8).reshape(height, width)
        else:
            pixels = _flat(image, _reduction(*image.size, limits.enough))
        return _turned(pixels, image.getexif().get(_ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception as error:  # hostile bytes raise nearly anything from within Pillow
        raise BadImage(f"the {name} is truncated or corrupt") from error


def _open(data: bytes) -> tuple[str, ImageFile]:
    """The format's name and the image, its header read and its pixels not yet."""
    if not data:
        raise BadImage("the image is empty: no bytes were sent")
    for magic, name, opener in _FORMATS:
        if data.startswith(magic):
            try:
                image = opener(io.BytesIO(data))
            except Exception as error:
                raise BadImage(f"the {name} is truncated or corrupt") from error
            if name == "TIFF":
                _check_tiles(image)
            return name, image
    raise BadImage("not an image: expected PNG, JPEG, WebP, BMP, GIF or TIFF")


def _check_tiles(image: ImageFile) -> None:
    """Refuse a TIFF whose tiles are far larger than its picture: a tile is allocated whole."""
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    width, height = image.size
    wide, high = (image.tag_v2.get(tag, 1) for tag in (_TILE_WIDTH, _TILE_LENGTH))
    if not (isinstance(wide, int) and isinstance(high, int)):
        raise BadImage("the TIFF is truncated or corrupt")
    if wide * high > 4 * (width + 512) * (height + 512):
        raise BadImage(f"the TIFF has tiles of {wide} x {high} for {width} x {height} pixels")


def _reduction(width: int, height: int, enough: int) -> int:
    """The whole factor by which an image may shrink and still show all that a model can use."""
    # The second term bounds what a very long strip costs.
    return max(1, min(width, height) // enough, -(-max(width, height) // (16 * enough)))


def _flat(image: Image.Image, factor: int) -> NDArray[np.uint8]:
    """The loaded image as opaque 8-bit pixels, each side divided by `factor`."""
    if image.mode == "LAB":
        image = image.getchannel(0)  # Pillow cannot convert it; its first channel is lightness
    if image.mode == "I" or image.mode == "F" or image.mode.startswith("I;16"):
        image = Image.fromarray(_eight_bit(np.asarray(image)))
    ground = _ground_under(image) if image.has_transparency_data else None
    width, height = image.size
    if width * height <= _BAND_PIXELS:
        return np.asarray(_opaque(image, ground, factor))
    # In bands, so that only the decoded image itself is ever held at full size.
    rows = max(1, _BAND_PIXELS // width // factor) * factor
    bands = (
        _opaque(image.crop((0, top, width, min(top + rows, height))), ground, factor)
        for top in range(0, height, rows)
    )
    return np.concatenate([np.asarray(band) for band in bands])


def _opaque(image: Image.Image, ground: int | None, factor: int) -> Image.Image:
    """Mode L or RGB, transparency laid over the grey `ground`, each side divided by `factor`."""
    if ground is not None:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, (ground, ground, ground, 255))
        image.alpha_composite(layer)
        image = image.convert("RGB")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return image.reduce(factor) if factor > 1 else image


def _eight_bit(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """16-bit integers over their whole range; wider types by the smallest usual range that fits."""
    if values.dtype.itemsize == 2:
        # v * 255 / 65535, rounded; exact for 8-bit values repeated in both bytes.
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    wide = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(wide.min()), float(wide.max())
    if low < 0 or high > 65535:
        span = low, high
    elif values.dtype.kind == "f" and high <= 1:
        span = 0.0, 1.0
    else:
        span = 0.0, 255.0 if high <= 255 else 65535.0
    return np.rint((wide - span[0]) * (255 / (span[1] - span[0]))).astype(np.uint8)


def _ground_under(image: Image.Image) -> int:
    """The grey to lay under a transparent image so that what it shows stays visible.

    Under a cut-out figure (a stroke, a garment): white if it is dark, black if it is light. Under
    a whole picture whose margin is transparent: the grey of that picture's own rim.
    """
    factor = max(1, min(image.size) // 128)
    small = image.resize((image.width // factor, image.height // factor), Image.Resampling.NEAREST)
    layer = np.asarray(small.convert("LA"))
    light, opacity = layer[..., 0].astype(np.float32), layer[..., 1]
    opaque = opacity > 127
    if not opaque.any():
        return 255 if float((light * opacity).sum()) < 127.5 * float(opacity.sum()) else 0
    rows, columns = np.flatnonzero(opaque.any(1)), np.flatnonzero(opaque.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    shown = light[opaque]
    if opaque[box].mean() > 0.9 and shown.std() > 20:
        inside = light[box]
        rim = np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]])
        return int(np.median(rim))
    return 255 if shown.mean() < 127.5 else 0


def _turned(pixels: NDArray[np.uint8], orientation: object) -> NDArray[np.uint8]:
    """`pixels` as the camera meant them, given EXIF orientation 1 to 8."""
    match orientation:
        case 2:
            return pixels[:, ::-1]
        case 3:
            return pixels[::-1, ::-1]
        case 4:
            return pixels[::-1]
        case 5:
            return pixels.swapaxes(0, 1)
        case 6:
            return pixels.swapaxes(0, 1)[:, ::-1]
        case 7:
            return pixels[::-1, ::-1].swapaxes(0, 1)
        case 8:
            return pixels.swapaxes(0, 1)[::-1]
    return pixels
