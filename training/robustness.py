"""How well a model holds up on pictures unlike its data set's, placed by the code that serves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifacts.canonical import place
from artifacts.decision import choose
from artifacts.images import BadImage
from artifacts.model import Model
from training import strangers
from training.corruptions import KINDS, MNIST_C_STYLE
from training.data import Images

Pixels = NDArray[np.uint8]
_BATCH = 512  # rows at a time


class Seen(NamedTuple):
    """What a model made of some pictures: of those refused, class -1 and infinite energy."""

    classes: NDArray[np.int64]  # int64[N]
    energy: NDArray[np.float64]  # float64[N]; minus the confidence for models without energy
    refused: int  # pictures in which nothing was found
    several: int  # pictures said to show several figures


def look(model: Model, pictures: Iterable[Pixels]) -> Seen:
    """Each picture (uint8[H, W] of any size) through the canonicaliser and the model."""
    rows: list[Pixels] = []
    counts: list[int] = []
    several = 0
    for picture in pictures:
        try:
            placed = place(picture, model.manifest.input)
        except BadImage:
            counts.append(0)
            continue
        several += bool(placed.report.get("several"))
        rows += placed.candidates
        counts.append(len(placed.candidates))
    classes = np.full(len(counts), -1, np.int64)
    energy = np.full(len(counts), np.inf)
    outputs = [
        model.predict(np.stack(rows[start : start + _BATCH]))
        for start in range(0, len(rows), _BATCH)
    ]
    if outputs:
        probabilities = np.concatenate([each.probabilities for each in outputs])
        energies = [each.energy for each in outputs if each.energy is not None]
        known = np.concatenate(energies) if energies else None
        ends = np.cumsum(counts)
        for k, (end, count) in enumerate(zip(ends, counts, strict=True)):
            if not count:
                continue
            mine = slice(end - count, end)
            best = end - count + choose(probabilities[mine], None if known is None else known[mine])
            classes[k] = probabilities[best].argmax()
            energy[k] = -probabilities[best].max() if known is None else known[best]
    return Seen(classes, energy, counts.count(0), several)


def _silent(_: str) -> None:
    """Says nothing."""


def robustness(
    model: Model,
    test: Images,
    count: int,
    folder: Path | None = None,
    say: Callable[[str], None] = _silent,
) -> dict[str, Any]:
    """All that is known of how the model holds up, from the first `count` of its `test` images.

    Shares are 0..1. `folder` has the other data sets; `say` is told what is measured next.
    Raises BadData.
    """
    kind = model.manifest.input.canonicaliser
    some = test.take(np.arange(min(count, len(test))))
    report = {"count": len(some)} | corrupted(model, some, say)
    say("strangers")
    dataset = {"digit": "mnist", "garment": "fashion-mnist"}[kind]
    report["auroc"] = apart(model, some.pixels, strangers.others(dataset, len(some), folder))
    if kind == "digit":
        say("digits from another source")
        report["other_digits"] = {
            name: accuracy(model, images.pixels, images.labels)
            for name, images in strangers.other_digits().items()
        }
    else:
        say("false inversions")
        report["false_inversions"] = false_inversions(model, test.pixels)
    return report


def corrupted(model: Model, images: Images, say: Callable[[str], None] = _silent) -> dict[str, Any]:
    """Accuracy on `images` clean and under each corruption of its kind."""
    kinds = KINDS[model.manifest.input.canonicaliser]
    found = {}
    for name, corrupt in kinds.items():
        say(name)
        pictures = (corrupt(image, seed) for seed, image in enumerate(images.pixels))
        found[name] = accuracy(model, pictures, images.labels)
    report: dict[str, Any] = {"clean": accuracy(model, images.pixels, images.labels)}
    style = [found[name] for name in MNIST_C_STYLE if name in found]
    if style:
        report["mnist_c_style"] = {"mean": float(np.mean(style)), "worst": min(style)}
    return report | {"corruptions": found}


def accuracy(model: Model, pictures: Iterable[Pixels], labels: NDArray[np.uint8]) -> float:
    """The share of pictures taken for what they are; a refused picture counts as wrong."""
    return float((look(model, pictures).classes == labels).mean())


def apart(model: Model, known: Pixels, others: Mapping[str, Pixels]) -> dict[str, float]:
    """By how much each set of `others` stands out from `known` by the energy: AUROC, 0..1."""
    usual = look(model, known).energy
    return {name: auroc(usual, look(model, images).energy) for name, images in others.items()}


def false_inversions(model: Model, pictures: Iterable[Pixels]) -> dict[str, Any]:
    """How many pictures that are light on dark would be inverted, or be seen both ways."""
    placed = [place(picture, model.manifest.input) for picture in pictures]
    found = sum(each.report["polarity"] != "kept" or len(each.candidates) > 1 for each in placed)
    return {"count": found, "of": len(placed), "share": found / max(1, len(placed))}


def table(report: Mapping[str, Any]) -> str:
    """What `robustness` found, for people to read."""
    lines = [f"robustness, {report['count']:,} images, placed as the service places them, %"]

    def add(name: str, share: float) -> None:
        lines.append(f"  {name:<40} {share * 100:>6.2f}")

    def section(title: str, figures: Mapping[str, float]) -> None:
        lines.append(f" {title}")
        for name, share in figures.items():
            add(name, share)

    add("clean", report["clean"])
    found = report["corruptions"]
    if "mnist_c_style" in report:
        section("MNIST-C-style", {name: found[name] for name in MNIST_C_STYLE})
        for name, share in report["mnist_c_style"].items():
            add(f"= {name}", share)
    section("pictures", {n: share for n, share in found.items() if n not in MNIST_C_STYLE})
    if "other_digits" in report:
        section("scikit-learn's digits", report["other_digits"])
    if "false_inversions" in report:
        wrong = report["false_inversions"]
        section(f"of {wrong['of']:,} test images", {"taken for dark on light": wrong["share"]})
    section("AUROC of strangers by energy", report["auroc"])
    return "\n".join(lines)


def auroc(low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    """The chance that one of `high` exceeds one of `low`, ties counted half."""
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, "left")
    up_to = np.searchsorted(ordered, high, "right")
    return float((below + up_to).mean() / 2 / len(low))
