"""Pictures that a model should not know, for its energy to set apart; and digits from elsewhere.

None of them is trained on by any recipe.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

from training.data import Images, load_test
from training.datasets import DATASETS

Pixels = NDArray[np.uint8]
# Debian's fonts-dejavu-core installs these; those that are there are drawn with.
FONTS = Path("/usr/share/fonts/truetype/dejavu")
FACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
)
# No letter that may as well be a digit: I, l, O, S, Z and the like.
LETTERS = "ABCDEFGHJKLMNPQRTUVWXYabdefhkmnprtwxy"


def others(dataset: str, count: int, folder: Path | None = None) -> dict[str, Pixels]:
    """Strangers to a model of `dataset` by name, at most `count` each: uint8[N, H, W].

    Raises BadData where a data set is missing.
    """
    digits_or_garments = {"mnist": "fashion-mnist", "fashion-mnist": "mnist"}
    sets: dict[str, Pixels] = {}
    if dataset in digits_or_garments:
        name = digits_or_garments[dataset]
        sets[name] = load_test(DATASETS[name], folder).pixels[:count]
    cifar10 = load_test(DATASETS["cifar10"], folder).pixels[:count]
    sets["cifar10, grey"] = colourless(cifar10)
    sets["noise"] = noise(min(count, 1000))
    sets["blank"] = blank(min(count, 1000))
    sets["letters, Pillow's font"] = letters()
    for face in FACES:
        file = FONTS / f"{face}.ttf"
        if file.is_file():
            sets[f"letters, {face}"] = letters(file)
    return sets


def noise(count: int, seed: int = 0) -> Pixels:
    """Uniform noise: uint8[count, 28, 28]."""
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), np.uint8)


def blank(count: int, seed: int = 0) -> Pixels:
    """One grey each: uint8[count, 28, 28]."""
    greys = np.random.default_rng(seed).integers(0, 256, count, np.uint8)
    return np.broadcast_to(greys[:, None, None], (count, 28, 28)).copy()


def letters(file: Path | None = None, text: str = LETTERS) -> Pixels:
    """`text` drawn letter by letter in a few sizes with a TrueType `file`, or else with the font
    that comes with Pillow: uint8[N, 56, 56]."""
    drawn = []
    for size in (24, 32, 40):
        font = ImageFont.load_default(size) if file is None else ImageFont.truetype(file, size)
        for letter in text:
            sheet = Image.new("L", (56, 56))
            ImageDraw.Draw(sheet).text((28, 28), letter, fill=255, font=font, anchor="mm")
            drawn.append(np.asarray(sheet))
    return np.stack(drawn)


def colourless(images: Pixels) -> Pixels:
    """uint8[N, H, W, 3] as uint8[N, H, W]."""
    grey: Pixels = np.rint(images @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return grey


def other_digits() -> dict[str, Images]:
    """scikit-learn's 1,797 digits of 8 x 8 pixels (UCI, 1998), as they are and enlarged."""
    found = load_digits()
    small = np.rint(found.images * (255 / 16)).astype(np.uint8)
    labels = found.target.astype(np.uint8)

    def enlarged(side: int, way: Image.Resampling) -> Pixels:
        sized = [Image.fromarray(each).resize((side, side), way) for each in small]
        return np.stack([np.asarray(each) for each in sized])

    ways: dict[str, Callable[[], Pixels]] = {
        "8 x 8": lambda: small,
        "28 x 28, bilinear": lambda: enlarged(28, Image.Resampling.BILINEAR),
        "64 x 64, bicubic": lambda: enlarged(64, Image.Resampling.BICUBIC),
        "64 x 64, nearest": lambda: enlarged(64, Image.Resampling.NEAREST),
        "112 x 112, Lanczos, dark on light": lambda: 255 - enlarged(112, Image.Resampling.LANCZOS),
        "20 x 20, bicubic, in 28 x 28": lambda: np.pad(
            enlarged(20, Image.Resampling.BICUBIC), ((0, 0), (4, 4), (4, 4))
        ),
    }
    return {name: Images(way(), labels) for name, way in ways.items()}
