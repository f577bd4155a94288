"""What a recipe is: a frozen value, complete, and checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_type_hints

from training.data import Strategy
from training.datasets import DATASETS

Activation = Literal["relu", "gelu", "sigmoid"]
Optimizer = Literal["sgd", "nesterov", "adam", "muon"]
Schedule = Literal["constant", "one-cycle"]
Loss = Literal["cross-entropy", "mse"]
Precision = Literal["bf16", "fp32"]
Flip = Literal["none", "random", "alternating"]
Architecture = Literal["vgg16", "resnet34", "mobilenet_v3_small", "efficientnet_lite0"]


class BadRecipe(ValueError):
    """A recipe that cannot work; the message names it, the field and what was expected."""


@dataclass(frozen=True, kw_only=True)
class Dense:
    """A multi-layer perceptron on the flattened pixels."""

    hidden: tuple[int, ...]  # width of each hidden layer
    activation: Activation = "relu"
    dropout: tuple[float, ...] = ()  # after each hidden layer; () for none
    standardise: bool = False  # subtract the training mean, divide by the deviation, inside


@dataclass(frozen=True, kw_only=True)
class Airbench:
    """A whitening 2x2 convolution, groups of two 3x3 ones that halve the map, a linear head.

    The shape of Keller Jordan's airbench nets (https://github.com/KellerJordan/cifar10-airbench).
    """

    widths: tuple[int, ...]  # channels of each group
    depth: int = 2  # convolutions in a group
    views: Literal[1, 6] = 1  # of an image, averaged outside training; 6: mirrored and moved


@dataclass(frozen=True, kw_only=True)
class Residual:
    """Stages of blocks of two 3x3 convolutions with shortcuts, each stage halving the map.

    The CIFAR-10 nets of He et al., 2015 (https://arxiv.org/abs/1512.03385, section 4.2).
    """

    widths: tuple[int, ...]  # channels of each stage
    blocks: int  # of a stage


@dataclass(frozen=True, kw_only=True)
class Convolutional:
    """Convolutions each followed by ReLU and a 2x2 pool, then hidden layers, as in LeNet-5."""

    filters: tuple[int, ...]  # channels of each convolution
    kernel: int  # side of a filter, in pixels
    padded: bool = False  # whether a convolution keeps the map's size
    norm: bool = False  # batch normalisation after each convolution
    standardise: bool = False  # subtract the training mean, divide by the deviation, inside
    hidden: tuple[int, ...]
    dropout: tuple[float, ...] = ()  # after each hidden layer; () for none


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """A scikit-learn classifier on the pixels, 0..1."""

    kind: Literal["tree", "forest", "svm"]
    max_depth: int | None = None  # of a tree; a deep forest is too large to commit
    min_leaf: int = 1  # training images in a leaf, at least
    images: int | None = None  # train on so many only, the first; None: all


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """An ImageNet architecture of `training.backbones` with a new first and last layer.

    Images are enlarged to `resolution` inside the network, so a recipe's inputs and the published
    graph's are the data set's own.
    """

    architecture: Architecture
    resolution: int  # side, in pixels, of what the architecture sees
    pretrained: bool = True  # starts from its published ImageNet weights
    width: float = 1.0  # of all its layers; the published weights are of width 1


Net = Dense | Airbench | Residual | Convolutional | Backbone | Estimator


@dataclass(frozen=True, kw_only=True)
class Augment:
    """How a batch of training images is varied. Lengths in pixels, angles in degrees."""

    flip: Flip = "none"  # left to right; alternating: each image is flipped every other epoch
    shift: int = 0  # up to so far, each way
    cutout: int = 0  # side of a square that is blanked
    rotate: float = 0.0  # up to so far, each way
    scale: float = 0.0  # share by which width and height vary, each for itself
    shear: float = 0.0
    jitter: float = 0.0  # share by which brightness and contrast vary
    wear: float = 0.0  # share of images worn in one of the ways of `training.wear`


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a training run produces."""

    name: str  # of the recipe and of the model it makes
    summary: str
    dataset: str  # a key of training.datasets.DATASETS
    net: Net
    min_accuracy: float  # of the test images, 0..1: publishing refuses below it
    epochs: int = 1  # 0: the weights of `init_from` as they are
    batch_size: int = 128  # images per step
    peak_lr: float = 1e-3  # top of the schedule, at this batch size
    optimizer: Optimizer = "nesterov"
    momentum: float = 0.9
    weight_decay: float = 0.0
    head_lr: float = 0.1  # where Muon moves the filters: of everything else, but
    norm_lr: float = 0.1  # of the norms' biases
    schedule: Schedule = "one-cycle"
    warmup: float = 0.2  # share of the steps in which one-cycle climbs
    loss: Loss = "cross-entropy"
    label_smoothing: float = 0.0
    ema: float = 0.0  # decay per step of the averaged weights; 0: the last weights are kept
    patience: int = 0  # epochs without a better validation accuracy before stopping; 0: never
    augment: Augment = field(default_factory=Augment)
    outliers: float = 0.0  # weight of keeping the logits of made-up images near 0; 0: none are made
    split: Strategy = "standard"
    precision: Precision = "bf16"  # of matrix products, where the device has it
    seed: int = 0
    uncertain_rate: float = 0.01  # share of validation images to call uncertain
    alien_rate: float = 0.01  # share of validation images to call alien
    teacher: str = ""  # a published model whose answers are learnt beside the labels
    init_from: str = ""  # a published model whose weights training starts from
    reported: float | None = None  # accuracy of the experiment that the recipe reproduces
    note: str = ""  # what a reader of the table should know while it is untrained

    def __post_init__(self) -> None:
        """Raises BadRecipe."""
        self._require(self.dataset in DATASETS, "dataset", f"one of {', '.join(DATASETS)}")
        for name, hint in get_type_hints(Recipe).items():
            if choices := get_args(hint):
                value = getattr(self, name)
                if isinstance(choices[0], str):
                    self._require(value in choices, name, f"one of {', '.join(choices)}")
        for name, least in (("epochs", 0 if self.init_from else 1), ("batch_size", 1)):
            value = getattr(self, name)
            wanted = f"a whole number from {least}"
            self._require(isinstance(value, int) and value >= least, name, wanted)
        for name in ("peak_lr", "head_lr", "norm_lr"):
            self._require(0 < getattr(self, name) < float("inf"), name, "a number above 0")
        for name in ("momentum", "warmup", "label_smoothing", "ema"):
            self._require(0 <= getattr(self, name) < 1, name, "a number from 0 to below 1")
        for name in ("min_accuracy", "uncertain_rate", "alien_rate"):
            self._require(0 <= getattr(self, name) <= 1, name, "a share from 0 to 1")
        for name in ("weight_decay", "outliers"):
            self._require(getattr(self, name) >= 0, name, "a number from 0")
        self._require(self.patience >= 0, "patience", "a whole number from 0")
        if self.split in ("refit", "author"):
            self._require(not self.patience, "patience", f"0: {self.split} leaves none to validate")
        if self.optimizer != "muon":
            for name in ("head_lr", "norm_lr"):
                default = getattr(Recipe, name)
                hint = f"{default}, since only muon reads it"
                self._require(getattr(self, name) == default, name, hint)
        if self.loss == "mse":
            self._require(not self.label_smoothing, "label_smoothing", "0 with the loss mse")
        self._check_net()

    def _check_net(self) -> None:
        side = DATASETS[self.dataset].shape[0]
        if isinstance(self.net, Dense):
            self._require(all(w >= 1 for w in self.net.hidden), "net.hidden", "widths from 1")
            self._require(
                len(self.net.dropout) in (0, len(self.net.hidden)),
                "net.dropout",
                "one share for each hidden layer, or none",
            )
        elif isinstance(self.net, Convolutional):
            for k in range(len(self.net.filters)):
                side -= 0 if self.net.padded else self.net.kernel - 1
                if side < 2:
                    raise BadRecipe(
                        f"recipe {self.name}: convolution {k + 1} of {self.net.kernel} x "
                        f"{self.net.kernel} leaves a map of {max(side, 0)} x {max(side, 0)}, too "
                        "small for the 2 x 2 pool; use smaller filters or fewer convolutions"
                    )
                side //= 2
        elif isinstance(self.net, Backbone):
            choices = get_args(Architecture)
            self._require(
                self.net.architecture in choices, "net.architecture", f"one of {', '.join(choices)}"
            )
            # Each halves the map five times.
            self._require(self.net.resolution >= 32, "net.resolution", "a side from 32 pixels")
            self._require(self.net.width > 0, "net.width", "a number above 0")
            if self.net.pretrained:
                self._require(self.net.width == 1, "net.width", "1, that of pretrained weights")
        elif isinstance(self.net, Airbench):
            self._require(bool(self.net.widths), "net.widths", "at least one group")
            self._require(self.net.depth in (2, 3), "net.depth", "2 or 3")
            self._require(self.net.views in (1, 6), "net.views", "1 or 6")
            side -= 1
            for group in range(len(self.net.widths)):
                if side < 2:
                    raise BadRecipe(
                        f"recipe {self.name}: group {group} would halve a map of {side} x {side}; "
                        "use fewer groups"
                    )
                side //= 2

    def _require(self, good: bool, name: str, expected: str) -> None:
        if not good:
            value: Any = self
            for part in name.split("."):
                value = getattr(value, part)
            raise BadRecipe(f"recipe {self.name}: {name} is {value!r}, expected {expected}")


def settings(value: object) -> dict[str, Any]:
    """A recipe's fields as JSON-able values, a nested one with its type's name."""
    record: dict[str, Any] = {}
    for entry in fields(value):  # type: ignore[arg-type]
        inner = getattr(value, entry.name)
        if hasattr(inner, "__dataclass_fields__"):
            inner = {"type": type(inner).__name__, **settings(inner)}
        record[entry.name] = inner
    return record


def from_settings(record: dict[str, Any]) -> Recipe:
    """The recipe that `settings` described: of an older release perhaps, whose fields were others.

    What it did not know has the default; what is not known any more is left out. Raises BadRecipe.
    """
    try:
        recipe: Recipe = _from_record(Recipe, record)
    except (KeyError, TypeError, ValueError) as error:
        name = record.get("name", "?")
        raise BadRecipe(f"recipe {name}: its settings are of another release: {error}") from error
    return recipe


def _from_record(kind: Any, record: dict[str, Any]) -> Any:
    values = {}
    for entry in fields(kind):
        if entry.name in record:
            value = record[entry.name]
            if isinstance(value, dict):
                kinds = {kind.__name__: kind for kind in (*get_args(Net), Augment)}
                value = _from_record(kinds[value["type"]], value)
            values[entry.name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)
