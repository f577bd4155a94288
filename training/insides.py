"""The sections of a report about what a model learnt from, how, and what it is made of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training import drawings, estimators, figures
from training.anatomy import blocks_of, dissect, filters
from training.augment import augment
from training.checkpoint import HISTORY
from training.data import Images
from training.data import load as load_parts
from training.datasets import Dataset
from training.export import weights
from training.figures import PLAIN
from training.fit import to_tensors
from training.nets import build
from training.page import Picture, Section, Table
from training.recipe import Recipe

SHOWN = 20  # images of the data


def sample_section(
    recipe: Recipe, dataset: Dataset, data: Path | None, labels: tuple[str, ...]
) -> Section:
    """Two images of each class that were trained on, as they are and as training varies them."""
    train = load_parts(dataset, data, recipe.split).train
    each = SHOWN // len(labels)
    # A class that a small set lacks is left out.
    rows = np.array(
        [row for turn in range(each) for row in nth_of_each(train.labels, len(labels), turn)]
    )
    chosen = train.take(rows)
    captions: list[figures.Caption] = [[(labels[label], PLAIN)] for label in chosen.labels]
    plain = figures.gallery(chosen.pixels, captions)
    pictures = [Picture("data", "Training images with their labels", plain, chart=False)]
    text = f"{len(train):,} images were trained on; of them two of each class."
    if recipe.augment != type(recipe.augment)():
        varied = augmented(chosen, rows, recipe)
        drawn = figures.gallery(varied, captions)
        pictures.append(Picture("data-augmented", "The same, augmented", drawn, chart=False))
        text += " Below, the same as training varied them in one epoch."
    return Section(f"The data: {dataset.title}", text, pictures=tuple(pictures))


def nth_of_each(labels: NDArray[np.uint8], classes: int, n: int) -> list[int]:
    """The row of the n-th image of each class that has so many."""
    found = (np.flatnonzero(labels == k) for k in range(classes))
    return [int(rows[n]) for rows in found if len(rows) > n]


def augmented(images: Images, rows: NDArray[np.int64], recipe: Recipe) -> NDArray[np.uint8]:
    """The images as the second epoch would have them, in their own shape."""
    pixels, _ = to_tensors(images, torch.device("cpu"))
    generator = torch.Generator().manual_seed(recipe.seed)
    indices = torch.from_numpy(rows)
    varied = augment(pixels.float() / 255, indices, recipe.augment, 1, generator).clamp(0, 1)
    drawn: NDArray[np.uint8] = (varied.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    return drawn.reshape(images.pixels.shape)


def learning_sections(run: Path) -> list[Section]:
    history = read_history(run)
    if not history:
        return []
    stand_in = read_history(run / "validation")
    text = (
        "Training figures are of augmented images, with dropout and label smoothing where the "
        "recipe has them, so that they may look worse than those of validation."
    )
    if stand_in:
        text += (
            " All images were trained on; the validation curves are those of a second network, "
            "trained the same way without the validation images."
        )
    drawn = figures.learning_curves(history, stand_in)
    return [Section("Learning curves", text, pictures=(Picture("learning", "Curves", drawn),))]


def read_history(run: Path) -> list[dict[str, float]]:
    path = run / HISTORY
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def network_sections(
    graph: bytes, recipe: Recipe, chosen: Images, labels: tuple[str, ...]
) -> list[Section]:
    """How the network is built, its first filters, and what it makes of one image."""
    net = build(recipe)
    net.load(weights(graph))
    pixels, _ = to_tensors(chosen, torch.device("cpu"))
    layers = dissect(net, pixels.float() / 255)
    blocks = blocks_of(layers)
    rows = tuple(
        (
            layer.name,
            layer.text,
            " x ".join(str(side) for side in layer.shape),
            f"{layer.parameters:,}",
            f"{layer.macs:,}",
        )
        for layer in layers
    )
    total = (
        *("all", "", ""),
        f"{sum(layer.parameters for layer in layers):,}",
        f"{sum(layer.macs for layer in layers):,}",
    )
    columns = ("layer", "what it does", "output", "parameters", "MACs")
    diagram = Picture("network", "Diagram of the network", drawings.diagram(blocks))
    sections = [
        Section(
            "The network",
            table=Table(columns, (*rows, total), folded=len(rows) > 60),
            pictures=(diagram,),
        )
    ]
    looked_for = filters(net, layers[0].shape)
    if looked_for is not None:
        drawn = drawings.first_filters(looked_for)
        sections.append(
            Section(
                "What the first layer looks for",
                f"{min(48, len(looked_for))} of its {len(looked_for)} filters: red adds to the "
                "answer where the image is light, blue takes away; colours are shown as they are.",
                pictures=(Picture("filters", "Filters of the first layer", drawn, chart=False),),
            )
        )
    name = labels[int(chosen.labels[0])]
    maps = drawings.feature_maps(blocks, labels)
    followed = Picture("layers", f"Feature maps of a test image, {name}", maps, chart=False)
    text = (
        f"A test image ({name}) as each layer passes it on: of every layer the 12 maps that vary "
        "most; last, how much speaks for each class."
    )
    return [*sections, Section("One image, layer by layer", text, pictures=(followed,))]


def estimator_sections(graph: bytes, recipe: Recipe, dataset: Dataset) -> list[Section]:
    """The size of a scikit-learn classifier, and what it looks at."""
    rows = tuple(estimators.summary(graph))
    sections = [Section("The classifier", recipe.summary, Table(("what", "how many"), rows))]
    asked = estimators.questions(graph, dataset.shape)
    if asked is not None:
        drawn = drawings.asked_pixels(asked)
        text = "How many branches ask whether a pixel is lighter than something."
        picture = Picture("pixels", "Questions for each pixel", drawn, chart=False)
        sections.append(Section("What it looks at", text, pictures=(picture,)))
    vectors = estimators.support_vectors(graph, dataset.shape)
    if vectors is not None:
        rows_shown = np.linspace(0, len(vectors) - 1, 40).round().astype(int)
        drawn = figures.gallery(vectors[rows_shown], [[]] * len(rows_shown))
        text = "40 of the training images that lie nearest to the borders between classes."
        picture = Picture("support-vectors", "Support vectors", drawn, chart=False)
        sections.append(Section("What it rests on", text, pictures=(picture,)))
    return sections
