"""The report of a run: how good it is, where it errs, how sure it is, and what it is made of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts.manifest import MODEL_FILE, Manifest
from artifacts.model import load
from artifacts.store import Store
from training import figures
from training.data import Images, load_test
from training.datasets import DATASETS
from training.evaluate import answers
from training.figures import RIGHT, WRONG
from training.insides import (
    estimator_sections,
    learning_sections,
    network_sections,
    sample_section,
)
from training.page import Picture, Section, Table, page
from training.recipe import Estimator, from_settings

FIGURES = ("precision", "recall", "f1")
FIRST = 20  # test images that are shown


@dataclass(frozen=True)
class Seen:
    """What a model answered to the test images, and how classes are called on the page."""

    test: Images
    chances: NDArray[np.float32]  # float32[N, K]
    labels: tuple[str, ...]

    @property
    def said(self) -> NDArray[np.int64]:
        best: NDArray[np.int64] = self.chances.argmax(axis=1)
        return best

    @property
    def mistakes(self) -> NDArray[np.int64]:
        """The wrong answers' rows, those given with the most confidence first."""
        wrong = np.flatnonzero(self.said != self.test.labels)
        confidence = self.chances[wrong].max(axis=1)
        return wrong[np.argsort(-confidence, kind="stable")]


def write_report(
    run: Path, store: Store, data: Path | None = None, language: str = "en", image: int = 0
) -> Path:
    """`run`/report.html and its pictures, for the version in `run`/result.json.

    `image` is the row of the test image that is followed through the network. Raises
    FileNotFoundError for a run that was not finished, NotFound, BadArtifact, BadData, BadRecipe,
    IndexError when there is no such image.
    """
    result = json.loads((run / "result.json").read_text())
    folder = store.folder(result["model"], result["version"])
    model = load(folder, execution_provider="cpu")
    manifest = model.manifest
    recipe = from_settings(manifest.provenance["settings"])
    dataset = DATASETS[recipe.dataset]
    test = load_test(dataset, data)
    chosen = test.take(np.array([image]))
    seen = Seen(test, answers(model, test), manifest.labels[language])
    data_section = sample_section(recipe, dataset, data, seen.labels)
    graph = (folder / MODEL_FILE).read_bytes()
    sections = [
        summary_section(manifest, seen),
        class_section(manifest, seen.labels),
        confusion_section(manifest, seen.labels),
        first_section(seen),
        mistake_section(seen),
        confidence_section(seen),
        data_section,
        *learning_sections(run),
        *(
            estimator_sections(graph, recipe, dataset)
            if isinstance(recipe.net, Estimator)
            else network_sections(graph, recipe, chosen, seen.labels)
        ),
        provenance_section(manifest),
    ]
    for old in run.glob("*.png"):
        old.unlink()
    for picture in (picture for section in sections for picture in section.pictures):
        (run / f"{picture.name}.png").write_bytes(picture.png)
    out = run / "report.html"
    out.write_text(page(manifest.name, manifest.version, sections), encoding="utf-8")
    return out


def summary_section(manifest: Manifest, seen: Seen) -> Section:
    test = manifest.test
    low, high = test["interval"]
    worst = (worst_of(manifest, seen.labels, figure) for figure in FIGURES)
    named = "; ".join(f"by {title(figure)} {label} ({v:.4f})" for figure, label, v in worst)
    return Section(
        "In short",
        f"{test['accuracy']:.2%} of {test['count']:,} test images are right ({low:.2%} to "
        f"{high:.2%}, 95 % interval): {test['count'] - test['correct']:,} errors.\n"
        f"The worst class: {named}.\n"
        f"Calibration error {test['ece']:.4f}, negative log-likelihood {test['nll']:.4f}. "
        f"{manifest.parameters:,} parameters, {manifest.macs / 1e6:,.2f} million "
        "multiply-accumulates for one image.",
    )


def worst_of(manifest: Manifest, labels: tuple[str, ...], figure: str) -> tuple[str, str, float]:
    """The figure, the class that is worst by it, and how bad that is."""
    values = [float(entry[figure]) for entry in manifest.test["classes"]]
    k = int(np.argmin(values))
    return figure, labels[k], values[k]


def title(figure: str) -> str:
    return "F1" if figure == "f1" else figure


def class_section(manifest: Manifest, labels: tuple[str, ...]) -> Section:
    matrix = np.array(manifest.test["confusion"])
    rows = []
    for k, entry in enumerate(manifest.test["classes"]):
        cells = (f"{entry[figure]:.4f}" for figure in FIGURES)
        errors = int(matrix[k].sum() - matrix[k, k])
        rows.append(
            (
                labels[k],
                *cells,
                f"{matrix[k].sum():,}",
                f"{errors:,}",
                confused(matrix[k], k, labels),
                confused(matrix[:, k], k, labels),
            )
        )
    columns = ("class", "precision", "recall", "F1", "images", "errors")
    more = ("most often taken for", "most often said of")
    return Section("Class by class", table=Table((*columns, *more), tuple(rows)))


def confused(counts: NDArray[np.int64], k: int, labels: tuple[str, ...]) -> str:
    """The class, other than `k`, that `counts` has most of."""
    others = counts.copy()
    others[k] = 0
    if not others.any():
        return "none"
    return f"{labels[int(others.argmax())]} ({others.max():,} times)"


def confusion_section(manifest: Manifest, labels: tuple[str, ...]) -> Section:
    matrix = np.array(manifest.test["confusion"])
    text = "Right answers in blue; wrong ones in red, on a scale of their own."
    picture = Picture("confusion", "Confusion matrix", figures.confusion(matrix, labels))
    return Section("Confusion matrix", text, pictures=(picture,))


def first_section(seen: Seen) -> Section:
    captions: list[figures.Caption] = [
        [(seen.labels[wanted], RIGHT), (seen.labels[found], WRONG)]
        for wanted, found in zip(seen.test.labels[:FIRST], seen.said, strict=False)
    ]
    drawn = figures.gallery(seen.test.pixels[:FIRST], captions)
    return Section(
        "The first 20 test images",
        "Above each its true label in blue, and below that the predicted one in red.",
        pictures=(Picture("the-first-20-test-images", "Test images", drawn, chart=False),),
    )


def mistake_section(seen: Seen) -> Section:
    """The ten worst large enough to be looked at, and fifty."""

    def drawn(rows: NDArray[np.int64], columns: int) -> bytes:
        captions: list[figures.Caption] = [
            [
                (seen.labels[seen.test.labels[row]], RIGHT),
                (f"{seen.labels[seen.said[row]]} {seen.chances[row].max():.0%}", WRONG),
            ]
            for row in rows
        ]
        return figures.gallery(seen.test.pixels[rows], captions, columns)

    rows = seen.mistakes
    if not len(rows):
        return Section("The most confident mistakes", "There are none.")
    return Section(
        "The most confident mistakes",
        f"{len(rows):,} answers are wrong. The 10 and the 50 that were given with the most "
        "confidence: the true label in blue, the answer and its probability in red.",
        pictures=(
            Picture("mistakes-10", "The ten worst mistakes", drawn(rows[:10], 5), chart=False),
            Picture("mistakes-50", "The fifty worst mistakes", drawn(rows[:50], 10), chart=False),
        ),
    )


def confidence_section(seen: Seen) -> Section:
    reliability = figures.reliability(seen.chances, seen.test.labels)
    risk = figures.risk_coverage(seen.chances, seen.test.labels)
    return Section(
        "Confidence",
        "First, how many images are right of those about which it is so sure, bars being 95 % "
        "intervals. Second, the errors that remain when only the most confident answers are given.",
        pictures=(
            Picture("reliability", "Share right against confidence", reliability),
            Picture("risk-coverage", "Errors against the share answered", risk),
        ),
    )


def provenance_section(manifest: Manifest) -> Section:
    facts: dict[str, Any] = manifest.provenance
    return Section("Provenance", code=json.dumps(facts, indent=1, ensure_ascii=False))
