"""ImageNet architectures in plain torch, their parameters named as in the published weights.

VGG16, ResNet-34 and MobileNetV3-Small have torchvision's names, EfficientNet-Lite0 those of
efficientnet-lite-pytorch. Each is `Net(classes, channels, width)`: float[N, channels, H, W],
normalised, -> logits float[N, classes]. `width` multiplies all hidden widths; the published
weights are of width 1.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from training.depthwise import Depthwise


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, a multiple of 8 so that kernels are efficient, and never 0."""
    return max(8, round(channels * width / 8) * 8)


def initialise(net: nn.Module) -> None:
    """Filters for activations that keep their variance backwards (He et al., 2015)."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01)
            nn.init.zeros_(layer.bias)


class Vgg16(nn.Module):
    """Thirteen 3x3 convolutions and three linear layers (Simonyan and Zisserman, 2014)."""

    GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
    HIDDEN = 4096
    POOLED = 7  # side of the map that the linear layers see

    def __init__(self, classes: int, channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for group in self.GROUPS:
            for published in group:
                outer = scaled(published, width)
                layers += [nn.Conv2d(channels, outer, 3, padding=1), nn.ReLU()]
                channels = outer
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        hidden = scaled(self.HIDDEN, width)
        self.classifier = nn.Sequential(
            *(nn.Linear(channels * self.POOLED**2, hidden), nn.ReLU(), nn.Dropout()),
            *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout()),
            nn.Linear(hidden, classes),
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), self.POOLED)
        logits: Tensor = self.classifier(x.flatten(1))
        return logits


class Resnet34(nn.Module):
    """Sixteen blocks of two 3x3 convolutions, each with a shortcut (He et al., 2015)."""

    STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # channels, blocks

    def __init__(self, classes: int, channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        inner = scaled(64, width)
        self.conv1 = nn.Conv2d(channels, inner, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        stages = []
        for number, (published, blocks) in enumerate(self.STAGES):
            outer = scaled(published, width)
            first = BasicBlock(inner, outer, stride=2 if number else 1)
            stages.append(
                nn.Sequential(first, *(BasicBlock(outer, outer) for _ in range(blocks - 1)))
            )
            inner = outer
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(inner, classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


class BasicBlock(nn.Module):
    """Two convolutions beside the identity, or beside a 1x1 one where the shape changes."""

    def __init__(self, inner: int, outer: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inner != outer:
            self.downsample = nn.Sequential(
                nn.Conv2d(inner, outer, 1, stride=stride, bias=False), nn.BatchNorm2d(outer)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class MobilenetV3Small(nn.Module):
    """Inverted residuals, some with squeeze-and-excitation (Howard et al., 2019, table 2)."""

    # kernel, expanded channels, channels out, squeeze-and-excitation, hard swish, stride
    BLOCKS = (
        (3, 16, 16, True, False, 2),
        (3, 72, 24, False, False, 2),
        (3, 88, 24, False, False, 1),
        (5, 96, 40, True, True, 2),
        (5, 240, 40, True, True, 1),
        (5, 240, 40, True, True, 1),
        (5, 120, 48, True, True, 1),
        (5, 144, 48, True, True, 1),
        (5, 288, 96, True, True, 2),
        (5, 576, 96, True, True, 1),
        (5, 576, 96, True, True, 1),
    )

    def __init__(self, classes: int, channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        inner = scaled(16, width)
        layers: list[nn.Module] = [normed(channels, inner, 3, 2, nn.Hardswish)]
        for kernel, expanded, outer, squeezed, hard, stride in self.BLOCKS:
            middle, end = scaled(expanded, width), scaled(outer, width)
            layers.append(InvertedResidual(inner, kernel, middle, end, squeezed, hard, stride))
            inner = end
        layers.append(normed(inner, 6 * inner, 1, 1, nn.Hardswish))
        self.features = nn.Sequential(*layers)
        hidden = scaled(1024, width)
        self.classifier = nn.Sequential(
            nn.Linear(6 * inner, hidden),
            nn.Hardswish(),
            nn.Dropout(0.2),
            nn.Linear(hidden, classes),
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x).mean(dim=(2, 3)))
        return logits


def normed(
    inner: int,
    outer: int,
    kernel: int,
    stride: int,
    activation: type[nn.Module] | None,
    *,
    depthwise: bool = False,
) -> nn.Sequential:
    """A convolution, its batch normalisation, an activation."""
    padding = kernel // 2
    layers: list[nn.Module] = [
        Depthwise(outer, kernel, stride, padding)
        if depthwise
        else nn.Conv2d(inner, outer, kernel, stride, padding, bias=False),
        norm(outer),
    ]
    return nn.Sequential(*layers, *([activation()] if activation else []))


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with the constants of MobileNetV3 and EfficientNet."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, perhaps weigh the channels, narrow; a shortcut."""

    def __init__(
        self,
        inner: int,
        kernel: int,
        expanded: int,
        outer: int,
        squeezed: bool,
        hard: bool,
        stride: int,
    ) -> None:
        super().__init__()
        activation = nn.Hardswish if hard else nn.ReLU
        layers: list[nn.Module] = []
        if expanded != inner:
            layers.append(normed(inner, expanded, 1, 1, activation))
        layers.append(normed(expanded, expanded, kernel, stride, activation, depthwise=True))
        if squeezed:
            layers.append(SqueezeExcitation(expanded))
        layers.append(normed(expanded, outer, 1, 1, None))
        self.block = nn.Sequential(*layers)
        self.shortcut = stride == 1 and inner == outer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return x + y if self.shortcut else y


class SqueezeExcitation(nn.Module):
    """Each channel times a weight that is computed from the means of all (Hu et al., 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = scaled(channels // 4, 1)
        if middle < 0.9 * (channels // 4):  # rounding takes at most a tenth away
            middle += 8
        self.fc1 = nn.Conv2d(channels, middle, 1)
        self.fc2 = nn.Conv2d(middle, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.fc2(F.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True))))
        return x * F.hardsigmoid(weights)


class EfficientnetLite0(nn.Module):
    """EfficientNet-B0 without squeeze-and-excitation, with ReLU6 (Tan and Le, 2019; Liu, 2020)."""

    # blocks, kernel, stride of the first, expansion, channels out
    STAGES = (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )

    def __init__(self, classes: int, channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        inner = scaled(32, width)
        self._conv_stem = nn.Conv2d(channels, inner, 3, 2, bias=False)
        self._bn0 = norm(inner)
        blocks = []
        for count, kernel, stride, expansion, published in self.STAGES:
            outer = scaled(published, width)
            for number in range(count):
                step = 1 if number else stride
                blocks.append(MobileBlock(inner, kernel, expansion * inner, outer, step))
                inner = outer
        self._blocks = nn.ModuleList(blocks)
        head = scaled(1280, width)
        self._conv_head = nn.Conv2d(inner, head, 1, bias=False)
        self._bn1 = norm(head)
        self._dropout = nn.Dropout(0.2)
        self._fc = nn.Linear(head, classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(padded(x, 3, 2))))
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)))
        logits: Tensor = self._fc(self._dropout(x.mean(dim=(2, 3))))
        return logits


class MobileBlock(nn.Module):
    """An inverted residual with EfficientNet's names and padding."""

    def __init__(self, inner: int, kernel: int, expanded: int, outer: int, stride: int) -> None:
        super().__init__()
        self._expand_conv: nn.Conv2d | None = None
        self._bn0: nn.BatchNorm2d | None = None
        if expanded != inner:
            self._expand_conv = nn.Conv2d(inner, expanded, 1, bias=False)
            self._bn0 = norm(expanded)
        self.uneven = (kernel, stride) if stride > 1 else None
        padding = 0 if self.uneven else kernel // 2
        self._depthwise_conv = Depthwise(expanded, kernel, stride, padding)
        self._bn1 = norm(expanded)
        self._project_conv = nn.Conv2d(expanded, outer, 1, bias=False)
        self._bn2 = norm(outer)
        self.shortcut = stride == 1 and inner == outer

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self._expand_conv is not None and self._bn0 is not None:
            y = F.relu6(self._bn0(self._expand_conv(y)))
        if self.uneven:
            y = padded(y, *self.uneven)
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        outer: Tensor = self._bn2(self._project_conv(y))
        return x + outer if self.shortcut else outer


def padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zeros around `x` as TensorFlow's SAME has them: what is odd goes below and to the right."""
    sides = []
    for side in (x.shape[3], x.shape[2]):
        missing = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
        sides += [missing // 2, missing - missing // 2]
    return F.pad(x, sides)
