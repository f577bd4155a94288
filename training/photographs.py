"""Pictures as people take and send them, made from a data set's images: photos, files, drawings."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from artifacts.images import decode

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
PHOTO = (240, 320)  # pixels high and wide, of a synthetic photo


def pixels(values: NDArray[np.generic]) -> Pixels:
    """Light 0..1 as uint8, clipped."""
    return np.rint(np.clip(values.astype(np.float32), 0, 1) * 255).astype(np.uint8)


def filtered(values: NDArray[np.generic], sigma: float) -> Floats:
    """float32[H, W] under a Gaussian of `sigma` pixels, the rim repeated outwards."""
    reach = max(1, int(3 * sigma + 0.5))
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2).astype(np.float32)
    weights /= weights.sum()
    blurred = np.pad(values.astype(np.float32), reach, mode="edge")
    blurred = np.apply_along_axis(np.convolve, 0, blurred, weights, "valid")
    blurred = np.apply_along_axis(np.convolve, 1, blurred, weights, "valid")
    return np.asarray(blurred, np.float32)


def warped(
    values: NDArray[np.generic], matrix: NDArray[np.float64], shape: tuple[int, int] | None = None
) -> Floats:
    """float32[H, W] sampled bilinearly at `matrix` (2x3, or 3x3 for a perspective) applied to each
    (x, y, 1) of the result; 0 outside."""
    height, width = shape or values.shape
    rows, columns = np.indices((height, width), np.float32)
    at = matrix @ np.stack([columns.ravel(), rows.ravel(), np.ones(height * width, np.float32)])
    if len(matrix) == 3:
        at = at[:2] / at[2]
    x, y = (at[0] + 1).reshape(height, width), (at[1] + 1).reshape(height, width)
    source = np.pad(values.astype(np.float32), 1)
    x = np.clip(x, 0, source.shape[1] - 1.001)
    y = np.clip(y, 0, source.shape[0] - 1.001)
    left, top = x.astype(np.intp), y.astype(np.intp)
    u, v = x - left, y - top
    upper = source[top, left] * (1 - u) + source[top, left + 1] * u
    lower = source[top + 1, left] * (1 - u) + source[top + 1, left + 1] * u
    return np.asarray(upper * (1 - v) + lower * v, np.float32)


def photo(image: Pixels, seed: int) -> Pixels:
    """A phone's photo of the figure in ink on paper: uint8[240, 320], dark on light.

    A pen of some darkness; plain, lined or squared paper; perspective and a turn of up to 10
    degrees; light that falls off to one side; a soft shadow; blur, noise and JPEG.
    """
    rng = np.random.default_rng(seed)
    height, width = PHOTO
    side = rng.uniform(0.3, 0.6) * height
    corners = _corners(rng, height, width, side)
    ink = warped(
        filtered(_enlarged(image, 4), 1.0), _perspective(corners, image.shape[0] * 4), PHOTO
    )
    paper = np.full(PHOTO, rng.uniform(0.82, 0.97), np.float32)
    paper *= 1 - rng.uniform(0.08, 0.25) * _ruling(rng)
    scene = paper * (1 - rng.uniform(0.65, 0.9) * np.clip(ink, 0, 1))
    scene *= _light(rng)
    scene = filtered(scene, rng.uniform(0.5, 1.2))
    scene += rng.normal(0, rng.uniform(0.005, 0.03), PHOTO).astype(np.float32)
    return compressed(pixels(scene), seed, quality=int(rng.integers(40, 91)))


def _enlarged(image: Pixels, factor: int) -> Floats:
    """Light 0..1, each side times `factor`, smoothly and with edges as sharp as a pen's."""
    size = (image.shape[1] * factor, image.shape[0] * factor)
    large = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC), np.float32)
    return np.clip((large / 255 - 0.25) * 2, 0, 1)


def _corners(rng: np.random.Generator, height: int, width: int, side: float) -> NDArray[np.float64]:
    """Where the square around the figure lands: float64[4, 2] of x and y, clockwise."""
    angle = np.deg2rad(rng.uniform(-10, 10))
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * side / 2
    square = square @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    square = square * (1 + rng.uniform(-0.12, 0.12, (4, 1)))
    room = np.array([width, height]) / 2 - 0.75 * side
    return np.asarray(
        square + np.array([width, height]) / 2 + rng.uniform(-1, 1, 2) * np.maximum(room, 0)
    )


def _perspective(corners: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """The 3x3 matrix that takes the four `corners` to those of a square of `side` pixels."""
    targets = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float64)
    equations, values = [], []
    for (x, y), (u, v) in zip(corners, targets, strict=True):
        equations += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    solved = np.linalg.solve(np.array(equations), np.array(values))
    return np.append(solved, 1.0).reshape(3, 3)


def _ruling(rng: np.random.Generator) -> Floats:
    """Where the paper's own lines are, 0..1: none, lines across, or squares."""
    kind = rng.integers(3)
    pitch, start = rng.integers(12, 30), rng.integers(0, 12)
    lines = np.zeros(PHOTO, np.float32)
    if kind >= 1:
        lines[start::pitch] = 1
    if kind == 2:
        lines[:, start::pitch] = 1
    return lines


def _light(rng: np.random.Generator) -> Floats:
    """Light over the scene, 0..1: brighter to one side, and the soft shadow of a hand or phone."""
    rows, columns = np.indices(PHOTO, np.float32)
    x, y = columns / PHOTO[1] - 0.5, rows / PHOTO[0] - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0, 0.6) * (x * np.cos(angle) + y * np.sin(angle))
    light = np.clip(rng.uniform(0.7, 1.0) + slope, 0.15, 1.1)
    if rng.random() < 0.5:
        turn = rng.uniform(0, 2 * np.pi)
        edge = x * np.cos(turn) + y * np.sin(turn) - rng.uniform(-0.3, 0.3)
        soft = 1 / (1 + np.exp(-edge / rng.uniform(0.01, 0.06)))
        light *= 1 - rng.uniform(0.2, 0.5) * soft
    return np.asarray(light, np.float32)


def compressed(image: Pixels, seed: int, quality: int) -> Pixels:
    """Through a JPEG of `quality`."""
    return decode(as_jpeg(image, seed, quality))


def as_jpeg(image: Pixels, seed: int, quality: int) -> bytes:
    """A JPEG of `quality`."""
    del seed
    return _file(Image.fromarray(image), "JPEG", quality=quality)


def transparent(image: Pixels, seed: int) -> Pixels:
    """Through `as_ink`."""
    return decode(as_ink(image, seed))


def as_ink(image: Pixels, seed: int) -> bytes:
    """A PNG of black (or, every other seed, white) ink on a transparent ground."""
    ink = Image.new("RGBA", image.shape[::-1], (0, 0, 0, 0) if seed % 2 else (255, 255, 255, 0))
    ink.putalpha(Image.fromarray(image))
    return _file(ink, "PNG")


def _file(picture: Image.Image, kind: str, **how: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **how)
    return file.getvalue()


def on_white(image: Pixels, seed: int) -> Pixels:
    """Drawn large in black on a white sheet of 300 x 400, off centre: as from a drawing program."""
    rng = np.random.default_rng(seed)
    side = int(rng.integers(90, 260))
    picture = Image.fromarray(pixels(_enlarged(image, 8))).resize((side, side))
    picture = picture.filter(ImageFilter.GaussianBlur(0.5))
    sheet = np.full((300, 400), 255, np.uint8)
    top, left = int(rng.integers(0, 300 - side)), int(rng.integers(0, 400 - side))
    sheet[top : top + side, left : left + side] -= np.asarray(picture)
    return sheet


def in_a_shop(image: Pixels, seed: int) -> Pixels:
    """A garment enlarged on a white sheet of 300 x 400 or so, off centre: as a web shop has it."""
    rng = np.random.default_rng(seed)
    side = int(rng.integers(112, 280))
    large = Image.fromarray(255 - image).resize((side, side), Image.Resampling.BICUBIC)
    height, width = side + int(rng.integers(10, 200)), side + int(rng.integers(10, 200))
    sheet = np.full((height, width), 255, np.uint8)
    top, left = int(rng.integers(0, height - side)), int(rng.integers(0, width - side))
    sheet[top : top + side, left : left + side] = np.asarray(large)
    return sheet


def transparent_garment(image: Pixels, seed: int) -> Pixels:
    """Through `as_cut_out`."""
    return decode(as_cut_out(image, seed))


def as_cut_out(image: Pixels, seed: int) -> bytes:
    """A PNG of the garment dark on a transparent ground: all that is not its ground is opaque."""
    del seed
    garment = Image.fromarray(255 - image).convert("RGBA")
    garment.putalpha(Image.fromarray(np.where(image > 0, 255, 0).astype(np.uint8)))
    return _file(garment, "PNG")
