"""Depthwise convolution whose gradient is quick on a CPU, where torch's own takes most of a step.

oneDNN has no fast backward pass for one filter per channel: it took 81 % of a training step of
EfficientNet-Lite0 (56 pixels, batch 64, bf16, PyTorch 2.13).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Depthwise(nn.Conv2d):
    """A square filter for each channel, as `nn.Conv2d` with as many groups as channels."""

    def __init__(self, channels: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(channels, channels, kernel, stride, padding, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.device.type != "cpu":
            return super().forward(x)
        weight = self.weight
        if torch.is_autocast_enabled("cpu"):  # a function of our own has to cast by itself
            kind = torch.get_autocast_dtype("cpu")
            x, weight = x.to(kind), weight.to(kind)
        y: Tensor = Filter.apply(x, weight, self.stride[0], self.padding[0])  # type: ignore[no-untyped-call]
        return y


class Filter(torch.autograd.Function):
    """The convolution, and its gradients as a convolution and as sums of products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (given,) = gradients
        x, weight = ctx.saved_tensors
        stride, padding = ctx.stride, ctx.padding
        return (
            of_input(given, x.shape, weight, stride, padding),
            of_weight(given, x, weight.shape[2], stride, padding).to(weight.dtype),
            None,
            None,
        )


def of_input(given: Tensor, shape: torch.Size, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The gradient of the input: the given one, spread by the stride, under the turned filter."""
    kernel = weight.shape[2]
    if stride > 1:
        height, width = (side + 2 * padding - kernel + 1 for side in shape[2:])
        spread = given.new_zeros(shape[0], height, width, shape[1]).permute(0, 3, 1, 2)
        spread[:, :, ::stride, ::stride] = given
        given = spread
    return F.conv2d(given, weight.flip(2, 3), None, 1, kernel - 1 - padding, 1, len(weight))


def of_weight(given: Tensor, x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """The gradient of the filters, [C, 1, k, k]: the sum, for each tap, of what met there."""
    channels = x.shape[1]
    x, given = x.permute(0, 2, 3, 1), given.permute(0, 2, 3, 1)  # sums are over rows of channels
    taps = []
    for i in range(kernel):
        above, from_above = span(x.shape[1], given.shape[1], i - padding, stride)
        for j in range(kernel):
            left, from_left = span(x.shape[2], given.shape[2], j - padding, stride)
            met = (x[:, above, left] * given[:, from_above, from_left]).reshape(-1, channels)
            # A matrix product sums bf16 in float32 without a copy in float32.
            taps.append(met.new_ones(1, len(met)) @ met)
    return torch.cat(taps).T.reshape(channels, 1, kernel, kernel)


def span(inner: int, outer: int, offset: int, stride: int) -> tuple[slice, slice]:
    """Which of `inner` places a tap at `offset` reads, and for which of `outer` places."""
    first = max(0, -(offset // stride))
    last = min(outer - 1, (inner - 1 - offset) // stride)
    if last < first:
        return slice(0), slice(0)
    start = first * stride + offset
    return slice(start, last * stride + offset + 1, stride), slice(first, last + 1)
