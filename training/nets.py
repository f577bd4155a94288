"""The networks: from a recipe's description to a torch module of float[N, C, H, W] in 0..1."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.backbones import BasicBlock, initialise
from training.datasets import DATASETS
from training.imagenet import PUBLISHED
from training.recipe import Airbench, Backbone, Convolutional, Dense, Recipe, Residual

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
}


class Network(nn.Module):
    """A classifier: float[N, C, H, W] in 0..1 -> logits float[N, K]."""

    batch = 1_000  # images at once where no gradient is needed
    channels_last = False  # the order of numbers in memory that its layers are fastest with

    def prepare(self, images: Tensor) -> None:
        """Take from a sample of the training images what is not learnt by descent."""

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take a state whose batch counters may be missing, as they are in an exported file.

        Raises ValueError naming what else is missing, unknown or of another shape.
        """
        try:
            outcome = self.load_state_dict(weights, strict=False)
        except RuntimeError as error:
            raise ValueError(f"these weights are of another network: {error}") from error
        missing = [name for name in outcome.missing_keys if "num_batches" not in name]
        if wrong := missing + outcome.unexpected_keys:
            raise ValueError(f"these weights are of another network: {', '.join(wrong)}")


def build(recipe: Recipe) -> Network:
    """The recipe's network, newly initialised from torch's global random state."""
    dataset = DATASETS[recipe.dataset]
    classes = len(dataset.labels["en"])
    channels = dataset.shape[2] if len(dataset.shape) == 3 else 1
    if isinstance(recipe.net, Dense):
        return Perceptron(recipe.net, math.prod(dataset.shape), classes)
    if isinstance(recipe.net, Convolutional):
        return Lenet(recipe.net, channels, dataset.shape[0], classes)
    if isinstance(recipe.net, Airbench):
        return AirbenchNet(recipe.net, channels, classes)
    if isinstance(recipe.net, Residual):
        return ResidualNet(recipe.net, channels, classes)
    if isinstance(recipe.net, Backbone):
        return BackboneNet(recipe.net, channels, classes)
    raise TypeError(f"recipe {recipe.name} is no network")


class Standardise(nn.Module):
    """Subtract the mean and divide by the deviation of the training images, by channel."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("deviation", torch.ones(channels, 1, 1))

    def measure(self, images: Tensor) -> None:
        self.mean.copy_(images.mean(dim=(0, 2, 3)).view(-1, 1, 1))
        self.deviation.copy_(images.std(dim=(0, 2, 3)).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation


class Perceptron(Network):
    """Linear layers with an activation, and dropout where it is asked for."""

    def __init__(self, shape: Dense, pixels: int, classes: int) -> None:
        super().__init__()
        self.standardise = Standardise(1) if shape.standardise else None
        layers: list[nn.Module] = []
        width = pixels
        for k, hidden in enumerate(shape.hidden):
            layers += [nn.Linear(width, hidden), ACTIVATIONS[shape.activation]()]
            if shape.dropout and shape.dropout[k]:
                layers.append(nn.Dropout(shape.dropout[k]))
            width = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(width, classes))

    def prepare(self, images: Tensor) -> None:
        if self.standardise is not None:
            self.standardise.measure(images)

    def forward(self, x: Tensor) -> Tensor:
        if self.standardise is not None:
            x = self.standardise(x)
        logits: Tensor = self.layers(x.flatten(1))
        return logits


class Lenet(Network):
    """Convolutions with pools, then a perceptron on what is left of the map."""

    def __init__(self, shape: Convolutional, channels: int, side: int, classes: int) -> None:
        super().__init__()
        self.standardise = Standardise(channels) if shape.standardise else None
        layers: list[nn.Module] = []
        for outer in shape.filters:
            padding = shape.kernel // 2 if shape.padded else 0
            layers.append(nn.Conv2d(channels, outer, shape.kernel, padding=padding))
            if shape.norm:
                layers.append(nn.BatchNorm2d(outer))
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
            channels = outer
            side = (side if shape.padded else side - shape.kernel + 1) // 2
        self.features = nn.Sequential(*layers)
        dense = Dense(hidden=shape.hidden, dropout=shape.dropout)
        self.classifier = Perceptron(dense, channels * side * side, classes)

    def prepare(self, images: Tensor) -> None:
        if self.standardise is not None:
            self.standardise.measure(images)

    def forward(self, x: Tensor) -> Tensor:
        if self.standardise is not None:
            x = self.standardise(x)
        logits: Tensor = self.classifier(self.features(x))
        return logits


class AirbenchNet(Network):
    """Whitening, groups, the maximum over what is left of the map, a linear head."""

    channels_last = True

    def __init__(self, shape: Airbench, channels: int, classes: int) -> None:
        super().__init__()
        self.views = shape.views
        self.standardise = Standardise(channels)
        filters = 2 * channels * 4  # each principal direction of 2x2 patches, and its opposite
        self.whiten = nn.Conv2d(channels, filters, 2)
        self.whiten.weight.requires_grad = False
        widths = (filters, *shape.widths)
        self.groups = nn.Sequential(
            *(Group(inner, outer, shape.depth) for inner, outer in pairwise(widths))
        )
        self.head = nn.Linear(widths[-1], classes)

    def prepare(self, images: Tensor) -> None:
        """Standardisation, and filters that make 2x2 patches uncorrelated with variance 1."""
        self.standardise.measure(images)
        patches = F.unfold(self.standardise(images), 2).transpose(1, 2).flatten(0, 1)
        patches = patches - patches.mean(dim=0)
        covariance = patches.T @ patches / len(patches)
        # In double precision: eigenvectors of a nearly singular matrix are sensitive.
        values, vectors = torch.linalg.eigh(covariance.double())
        scaled = (
            (vectors / (values + 5e-4).sqrt()).T.float().reshape(-1, *self.whiten.weight.shape[1:])
        )
        self.whiten.weight.copy_(torch.cat([scaled, -scaled]))
        assert self.whiten.bias is not None
        self.whiten.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        if self.training or self.views == 1:
            return self.logits(x)
        # As airbench averages: the image itself counts as much as where it was moved to.
        still, *moved = (
            (self.logits(view) + self.logits(view.flip(3))) / 2 for view in (x, *diagonally(x))
        )
        return still / 2 + sum(moved) / (2 * len(moved))

    def logits(self, x: Tensor) -> Tensor:
        x = self.groups(F.gelu(self.whiten(self.standardise(x))))
        logits: Tensor = self.head(x.amax(dim=(2, 3)))
        return logits


def diagonally(x: Tensor) -> tuple[Tensor, Tensor]:
    """Images moved by a pixel, down and right, up and left; what enters is mirrored."""
    height, width = x.shape[2:]
    around = F.pad(x, (1, 1, 1, 1), mode="reflect")
    return around[:, :, :height, :width], around[:, :, 2:, 2:]


class Group(nn.Module):
    """Convolutions 3x3 with batch normalisation and GELU, the first halving the map."""

    def __init__(self, inner: int, outer: int, depth: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inner if k == 0 else outer, outer, 3, padding=1, bias=False)
            for k in range(depth)
        )
        self.norms = nn.ModuleList(Shift(outer) for _ in range(depth))
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Conv2d)
            # As many filters as there are input channels start as the identity.
            nn.init.dirac_(convolution.weight[:inner].data)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = zip(self.convolutions, self.norms, strict=True)
        x = first[0](x)
        # A norm here is increasing, so either order gives the same. Pooling first is less work in
        # torch; the norm beside its convolution can be fused with it in what is exported.
        if torch.compiler.is_exporting():
            x = F.max_pool2d(first[1](x), 2)
        else:
            x = first[1](F.max_pool2d(x, 2))
        x = F.gelu(x)
        for k, (convolution, norm) in enumerate(others):
            y = norm(convolution(x))
            x = F.gelu(y + x if k == 1 else y)  # a third convolution has a shortcut
        return x


class Shift(nn.BatchNorm2d):
    """Batch normalisation whose scale stays 1 and is not learnt."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.weight.requires_grad = False


class ResidualNet(Network):
    """A 3x3 convolution, stages of residual blocks, the mean of the map, a linear head."""

    channels_last = True

    def __init__(self, shape: Residual, channels: int, classes: int) -> None:
        super().__init__()
        self.standardise = Standardise(channels)
        inner = shape.widths[0]
        self.stem = nn.Conv2d(channels, inner, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(inner)
        blocks = []
        for stage, outer in enumerate(shape.widths):
            for block in range(shape.blocks):
                blocks.append(BasicBlock(inner, outer, stride=2 if stage and not block else 1))
                inner = outer
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inner, classes)
        initialise(self)

    def prepare(self, images: Tensor) -> None:
        self.standardise.measure(images)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.norm(self.stem(self.standardise(x)))))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


class BackboneNet(Network):
    """Images standardised as for ImageNet, enlarged, and given to an architecture made for it.

    Its first layer takes the data set's channels, its last one gives the data set's classes.
    """

    channels_last = True

    def __init__(self, shape: Backbone, channels: int, classes: int) -> None:
        super().__init__()
        self.side = shape.resolution
        self.batch = max(1, min(self.batch, 4_000 * 28**2 // self.side**2))
        self.published = PUBLISHED[shape.architecture]
        self.standardise = Standardise(channels)
        for constant, values in (
            (self.standardise.mean, self.published.mean),
            (self.standardise.deviation, self.published.deviation),
        ):
            colours = torch.tensor(values).view(-1, 1, 1)
            constant.copy_(colours if channels == 3 else colours.mean())
        self.body = self.published.build(classes, channels, shape.width)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Also takes the weights as published for ImageNet; the last layer then stays new."""
        if self.published.first in weights:
            weights = self.adopted(weights)
        super().load(weights)

    def adopted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """This network's state with published weights in it. Raises ValueError."""
        first, last = self.published.first, f"{self.published.last}."
        own = self.state_dict()
        filters = weights[first]
        if own[f"body.{first}"].shape[1] == 1:
            # Filters summed over the colours answer to grey as the published ones to grey colours.
            filters = filters.sum(dim=1, keepdim=True)
        taken = {f"body.{n}": v for n, v in weights.items() if not n.startswith(last)}
        kept = {n: v for n, v in own.items() if n.startswith(("standardise.", f"body.{last}"))}
        return {**taken, f"body.{first}": filters, **kept}

    def forward(self, x: Tensor) -> Tensor:
        x = self.standardise(x)  # before there are more pixels; after would be the same
        x = F.interpolate(x, (self.side, self.side), mode="bilinear", align_corners=False)
        logits: Tensor = self.body(x)
        return logits


def parameters(net: nn.Module) -> int:
    """How many numbers the network holds, learnt or set by `prepare`."""
    return sum(parameter.numel() for parameter in net.parameters())


def multiply_accumulates(net: nn.Module, image: Tensor) -> int:
    """Multiply-accumulates of the linear and convolution layers for one image float[1, C, H, W]."""
    total = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, Tensor)
        # Each output number of a layer costs one product for each weight of its filter.
        total += output.numel() * weight[0].numel()

    layers = [layer for layer in net.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        with torch.no_grad():
            net.eval()(image)
    finally:
        for hook in hooks:
            hook.remove()
    return total
