"""What a network is made of: every operation with its shape, size, cost and output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

Maps = NDArray[np.float32]

WORDS = {
    "add": "add what came before",
    "adaptive_avg_pool2d": "mean over the map",
    "amax": "maximum over the map",
    "avg_pool2d": "mean pool",
    "flatten": "flatten",
    "gelu": "GELU",
    "hardsigmoid": "hard sigmoid",
    "hardswish": "hard swish",
    "interpolate": "resize",
    "max_pool2d": "max pool",
    "mean": "mean over the map",
    "mul": "multiply",
    "relu": "ReLU",
    "relu6": "ReLU up to 6",
    "sigmoid": "sigmoid",
}


@dataclass(frozen=True)
class Layer:
    """One operation of a network, and what it made of one image."""

    name: str  # of the module, or of the function
    text: str  # what it does
    parameters: int
    macs: int  # multiply-accumulates for the image
    output: Maps  # float32[C, H, W] or float32[width]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.output.shape


@dataclass(frozen=True)
class Block:
    """A layer that multiplies, with the light ones that follow it; the first one is the input."""

    layers: tuple[Layer, ...]

    @property
    def output(self) -> Maps:
        return self.layers[-1].output

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)


def dissect(net: nn.Module, image: Tensor) -> list[Layer]:
    """The operations of `net` on `image` (float[1, C, H, W]) in the order they run.

    The image itself is the first.
    """
    watch = _Watch()
    hooks = [hook for name, part in net.named_modules() for hook in watch.hook(name, part)]
    try:
        with torch.no_grad(), watch:
            net.eval()(image)
    finally:
        for hook in hooks:
            hook.remove()
    return [Layer("image", "image", 0, 0, image[0].numpy()), *watch.layers]


def blocks_of(layers: list[Layer]) -> list[Block]:
    """Layers gathered for a picture: a new block at each one that multiplies."""
    gathered: list[list[Layer]] = [[]]
    for layer in layers:
        if layer.macs:
            gathered.append([])
        gathered[-1].append(layer)
    return [Block(tuple(group)) for group in gathered]


def filters(net: nn.Module, shape: tuple[int, ...]) -> Maps | None:
    """What the first layer looks for: float32[N, C, H, W]; a unit's weights laid out as an image.

    None when the first layer has no such picture. `shape` is an image's: (C, H, W).
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            return layer.weight.detach().numpy()
        if isinstance(layer, nn.Linear):
            if layer.in_features != int(np.prod(shape)):
                return None
            return layer.weight.detach().numpy().reshape(-1, *shape)
    return None


class _Watch(TorchFunctionMode):
    """Keeps each operation that makes a tensor: modules without parts, and functions between."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[Layer] = []
        self.inside = False  # a module, whose own functions are not looked at

    def hook(self, name: str, part: nn.Module) -> list[RemovableHandle]:
        """Hooks for a module; none for one that is made of others."""
        if any(part.children()):
            return []

        def enter(_: nn.Module, __: object) -> None:
            self.inside = True

        def leave(module: nn.Module, _: object, output: Tensor) -> None:
            self.keep(name, *_described(module, output), output)
            self.inside = False  # only now: what `keep` does is not the network's

        return [part.register_forward_pre_hook(enter), part.register_forward_hook(leave)]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if not self.inside and isinstance(output, Tensor):
            name = str(func.__name__).rstrip("_")
            self.keep(name, WORDS.get(name, name), 0, 0, output)
        return output

    def keep(self, name: str, text: str, parameters: int, macs: int, output: Tensor) -> None:
        # A copy, since an activation may later change it in its place.
        kept = output[0].float().numpy().copy()
        self.layers.append(Layer(name, text, parameters, macs, kept))


def _described(layer: nn.Module, output: Tensor) -> tuple[str, int, int]:
    """What a module does, in words; its parameters; its multiply-accumulates."""
    parameters = sum(parameter.numel() for parameter in layer.parameters())
    macs = 0
    if isinstance(layer, nn.Linear | nn.Conv2d):
        macs = output[0].numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Linear):
        text = f"linear, {layer.in_features} to {layer.out_features}"
    elif isinstance(layer, nn.Conv2d):
        sides = "x".join(str(side) for side in layer.kernel_size)
        text = f"convolution {sides}, {layer.in_channels} to {layer.out_channels}"
        if layer.groups > 1:
            text += ", each channel alone" if layer.groups == layer.in_channels else ", in groups"
        if layer.stride[0] > 1:
            text += f", stride {layer.stride[0]}"
    elif isinstance(layer, nn.BatchNorm2d):
        text = "batch normalisation"
    elif isinstance(layer, nn.MaxPool2d):
        text = "max pool"
    elif isinstance(layer, nn.Dropout):
        text = f"dropout {layer.p:g}"
    else:
        name = type(layer).__name__
        text = WORDS.get(name.lower(), name if name.isupper() else name.lower())
    return text, parameters, macs
