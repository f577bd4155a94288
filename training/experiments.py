"""The experiments this project grew from, as recipes: each on its author's images and settings."""

from __future__ import annotations

from dataclasses import replace

from training.recipe import Augment, Backbone, Convolutional, Dense, Estimator, Recipe

MARGIN = 0.007  # below the reported figure that a reproduction may be

_MLP = Recipe(
    name="mnist-mlp128-relu-adam",
    summary="128 hidden units, ReLU, Adam.",
    dataset="mnist",
    net=Dense(hidden=(128,)),
    epochs=10,
    batch_size=256,
    optimizer="adam",
    peak_lr=1e-3,
    schedule="constant",
    split="author",
    precision="fp32",
    min_accuracy=0.974 - MARGIN,
    reported=0.974,
)
_FASHION_MLP = Recipe(
    name="fashion-mlp",
    summary="Four hidden layers with dropout, flips and jitter.",
    dataset="fashion-mnist",
    net=Dense(hidden=(256, 128, 64, 32), dropout=(0, 0, 0.5, 0.25)),
    epochs=15,
    batch_size=128,
    optimizer="adam",
    peak_lr=1e-3,
    schedule="constant",
    augment=Augment(flip="random", jitter=0.2),
    split="author-80",
    precision="fp32",
    uncertain_rate=0.05,
    min_accuracy=0.87 - MARGIN,
    reported=0.87,
)
_LENET = Recipe(
    name="cifar10-lenet",
    summary="LeNet on colour: filters of 3, chosen by validation out of six.",
    dataset="cifar10",
    net=Convolutional(filters=(6, 16), kernel=3, standardise=True, hidden=(120, 84)),
    epochs=5,
    batch_size=2048,
    optimizer="adam",
    peak_lr=0.01,
    schedule="constant",
    split="author",
    precision="fp32",
    uncertain_rate=0.10,
    min_accuracy=0.40,
    reported=0.553,
)
_IMAGENET = Recipe(
    name="fashion-resnet34",
    summary="ResNet-34 from ImageNet's weights, at its own resolution.",
    dataset="fashion-mnist",
    net=Backbone(architecture="resnet34", resolution=224),
    epochs=5,
    batch_size=64,
    optimizer="adam",
    peak_lr=1e-4,
    schedule="constant",
    split="author-80",
    uncertain_rate=0.05,
    min_accuracy=0.94 - MARGIN,
    reported=0.94,
    note="Not trained to the end: that takes a GPU.",
)
_TREE = Recipe(
    name="fashion-tree",
    summary="A decision tree on the pixels.",
    dataset="fashion-mnist",
    net=Estimator(kind="tree", max_depth=16, min_leaf=5),
    split="author",
    uncertain_rate=0.05,
    min_accuracy=0.79 - MARGIN,
    reported=0.79,
)

_MLPS = (
    replace(
        _MLP,
        name="mnist-mlp128-sigmoid-sgd",
        summary="128 hidden units, sigmoid, plain gradient descent.",
        net=Dense(hidden=(128,), activation="sigmoid"),
        optimizer="sgd",
        peak_lr=0.1,
        min_accuracy=0.90,
        reported=0.915,
    ),
    replace(
        _MLP,
        name="mnist-mlp128-sigmoid-adam",
        summary="The same with Adam.",
        net=Dense(hidden=(128,), activation="sigmoid"),
        min_accuracy=0.961 - MARGIN,
        reported=0.961,
    ),
    _MLP,
    replace(
        _MLP,
        name="mnist-mlp256-relu-adam",
        summary="256 hidden units.",
        net=Dense(hidden=(256,)),
        min_accuracy=0.978 - MARGIN,
        reported=0.978,
    ),
)
_IN_64S = (0.945, 0.974, 0.978, 0.979)  # what was reported of each in batches of 64

EXPERIMENTS = (
    *_MLPS,
    *(
        replace(
            recipe,
            name=f"{recipe.name}-64",
            summary=f"{recipe.name} in batches of 64.",
            batch_size=64,
            min_accuracy=reported - MARGIN,
            reported=reported,
        )
        for recipe, reported in zip(_MLPS, _IN_64S, strict=True)
    ),
    replace(
        _MLP,
        name="mnist-mlp400-sigmoid-mse",
        summary="400 sigmoid units, standardised inside, squared error.",
        net=Dense(hidden=(400,), activation="sigmoid", standardise=True),
        loss="mse",
        epochs=40,
        batch_size=100,
        peak_lr=5e-4,
        min_accuracy=0.980 - MARGIN,
        reported=0.980,
    ),
    replace(
        _MLP,
        name="mnist-mlp400x100",
        summary="400 and 100 hidden units, 80 epochs.",
        net=Dense(hidden=(400, 100)),
        epochs=80,
        min_accuracy=0.984 - MARGIN,
        reported=0.984,
    ),
    replace(
        _MLP,
        name="fashion-mlp400x100",
        summary="The same dense net on garments.",
        dataset="fashion-mnist",
        net=Dense(hidden=(400, 100)),
        epochs=80,
        uncertain_rate=0.05,
        min_accuracy=0.87,
        reported=None,
    ),
    _FASHION_MLP,
    replace(
        _FASHION_MLP,
        name="fashion-cnn-small",
        summary="Two small convolutions before a dense net with dropout.",
        net=Convolutional(
            filters=(4, 8),
            kernel=3,
            padded=True,
            norm=True,
            hidden=(128, 64, 32),
            dropout=(0, 0.5, 0.25),
        ),
        min_accuracy=0.89 - MARGIN,
        reported=0.89,
    ),
    replace(
        _IMAGENET,
        name="fashion-vgg16",
        summary="VGG16 from ImageNet's weights, at its own resolution.",
        net=Backbone(architecture="vgg16", resolution=224),
        min_accuracy=0.93 - MARGIN,
        reported=0.93,
    ),
    _IMAGENET,
    replace(
        _IMAGENET,
        name="fashion-mobilenetv3",
        summary="MobileNetV3-Small, the real one: the experiment's was a second ResNet-34.",
        net=Backbone(architecture="mobilenet_v3_small", resolution=224),
    ),
    _LENET,
    replace(
        _LENET,
        name="cifar10-lenet3",
        summary="LeNet with a third convolution.",
        net=Convolutional(filters=(6, 16, 32), kernel=3, standardise=True, hidden=(120, 84)),
        epochs=10,
        reported=0.573,
    ),
    _TREE,
    replace(
        _TREE,
        name="fashion-forest",
        summary="A hundred trees, grown to the end.",
        net=Estimator(kind="forest"),
        min_accuracy=0.88 - MARGIN,
        reported=0.88,
    ),
    replace(
        _TREE,
        name="fashion-svm",
        summary="A support vector machine with a radial kernel.",
        net=Estimator(kind="svm"),
        min_accuracy=0.88 - MARGIN,
        reported=0.88,
    ),
)
