"""What a network is made of: every operation with its shape, size, cost and output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

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
    "mul": "multiply",
    "relu": "ReLU",
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
    graph = _Tracer().trace(net.eval())
    watch = _Watch(fx.GraphModule(net, graph))
    with torch.no_grad():
        watch.run(image)
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


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Our own modules without parts count as one operation too."""
        return super().is_leaf_module(m, module_qualified_name) or not any(m.children())


class _Watch(fx.Interpreter):
    """Runs a graph and keeps each operation that makes a tensor for each image."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.layers: list[Layer] = []

    def run_node(self, n: fx.Node) -> Any:
        output = super().run_node(n)
        if n.op.startswith("call_") and isinstance(output, Tensor) and len(output) == 1:
            if n.op == "call_module":
                name = str(n.target)
                module = self.module.get_submodule(name)
                text, parameters, macs = _described(module, output)
            else:
                name = n.target if isinstance(n.target, str) else n.target.__name__
                text, parameters, macs = WORDS.get(name, name), 0, 0
            # A copy, since an activation may later change it in its place.
            kept = output[0].float().numpy().copy()
            self.layers.append(Layer(name, text, parameters, macs, kept))
        return output


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
