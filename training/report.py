"""One self-contained HTML page of a run: how it learnt, where it errs, what it sees."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from artifacts.manifest import Manifest
from artifacts.model import load
from artifacts.store import Store
from training import export, figures
from training.augment import augment
from training.checkpoint import HISTORY
from training.data import Images, load_test
from training.datasets import DATASETS
from training.evaluate import probabilities
from training.fit import to_tensors
from training.nets import Network, build
from training.recipe import Estimator
from training.recipes import RECIPES

LANGUAGES = ("en", "pt")


def write_report(run: Path, store: Store, data: Path | None = None, language: str = "en") -> Path:
    """`run`/report.html and its pictures, for the version in `run`/result.json.

    Raises FileNotFoundError for a run that was not finished, NotFound, BadArtifact, BadData.
    """
    result = json.loads((run / "result.json").read_text())
    folder = store.folder(result["model"], result["version"])
    model = load(folder, execution_provider="cpu")
    manifest = model.manifest
    test = load_test(DATASETS[manifest.provenance["dataset"]], data)
    chances = probabilities(model, test.pixels)
    labels = manifest.labels[language]
    pictures: dict[str, bytes] = {}
    if (run / HISTORY).exists():
        history = [json.loads(line) for line in (run / HISTORY).read_text().splitlines()]
        pictures["Learning curves"] = figures.learning_curves(history)
    matrix = np.array(manifest.test["confusion"])
    pictures["Confusion"] = figures.confusion(matrix, labels)
    pictures["Reliability"] = figures.reliability(chances, test.labels)
    pictures["Errors against coverage"] = figures.risk_coverage(chances, test.labels)
    pictures["The first 20 test images"] = first_images(test, chances, labels)
    pictures["The most confident mistakes"] = mistakes(test, chances, labels, 50)
    recipe = RECIPES[manifest.name]
    summary = ""
    if not isinstance(recipe.net, Estimator):
        net = build(recipe)
        net.load(export.weights((folder / "model.onnx").read_bytes()))
        pictures["Augmented training images"] = augmented(test, manifest.name)
        pictures["One image, layer by layer"] = figures.feature_maps(layers(net, test))
        summary = f"<pre>{html.escape(str(net))}</pre>"
    for title, picture in pictures.items():
        (run / f"{title.lower().replace(' ', '-').replace(',', '')}.png").write_bytes(picture)
    page = run / "report.html"
    page.write_text(page_of(manifest, labels, matrix, pictures, summary), encoding="utf-8")
    return page


def first_images(
    test: Images, chances: NDArray[np.float32], labels: tuple[str, ...], count: int = 20
) -> bytes:
    """Each with its true label, and the predicted one: red where it is wrong."""
    said = chances[:count].argmax(axis=1)
    titles = [
        labels[wanted] if wanted == found else f"{labels[wanted]}\nnot {labels[found]}"
        for wanted, found in zip(test.labels, said, strict=False)
    ]
    colours = [
        figures.RIGHT if wanted == found else figures.WRONG
        for wanted, found in zip(test.labels, said, strict=False)
    ]
    return figures.gallery(test.pixels[:count], titles, colours)


def mistakes(
    test: Images, chances: NDArray[np.float32], labels: tuple[str, ...], most: int
) -> bytes:
    """The wrong answers that were given with the most confidence, the worst first."""
    said, confidence = chances.argmax(axis=1), chances.max(axis=1)
    wrong = np.flatnonzero(said != test.labels)
    chosen = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    titles = [
        f"{labels[test.labels[k]]}\nnot {labels[said[k]]}\n{confidence[k]:.0%}" for k in chosen
    ]
    return figures.gallery(test.pixels[chosen], titles, ["black"] * len(chosen))


def augmented(test: Images, name: str, count: int = 20) -> bytes:
    """How training varies its images; shown on images that were not trained on."""
    recipe = RECIPES[name]
    part = Images(test.pixels[:count], test.labels[:count])
    pixels, _ = to_tensors(part, torch.device("cpu"))
    rows = torch.arange(count)
    generator = torch.Generator().manual_seed(0)
    varied = augment(pixels.float() / 255, rows, recipe.augment, 1, generator)
    images = (varied.permute(0, 2, 3, 1) * 255).byte().numpy()
    images = images[..., 0] if images.shape[3] == 1 else images
    return figures.gallery(images, [""] * count, ["black"] * count)


def layers(net: Network, test: Images) -> list[tuple[str, NDArray[np.float32]]]:
    """The maps that each layer with a two-dimensional output makes of the first test image."""
    pixels, _ = to_tensors(Images(test.pixels[:1], test.labels[:1]), torch.device("cpu"))
    image: NDArray[np.float32] = (pixels[0].float() / 255).numpy()
    found = [("image", image)]

    def keep(name: str) -> object:
        def hook(_: object, __: object, output: torch.Tensor) -> None:
            if output.ndim == 4:
                found.append((f"{name} {list(output.shape[1:])}", output[0].numpy()))

        return hook

    kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.MaxPool2d)
    for name, layer in net.named_modules():
        if isinstance(layer, kinds):
            layer.register_forward_hook(keep(name))  # type: ignore[arg-type]
    with torch.no_grad():
        net.eval()(pixels.float() / 255)
    return found


def page_of(
    manifest: Manifest,
    labels: tuple[str, ...],
    matrix: NDArray[np.int64],
    pictures: dict[str, bytes],
    summary: str,
) -> str:
    test = manifest.test
    low, high = test["interval"]
    worst = min(test["classes"], key=lambda entry: float(entry["f1"]))
    rows = []
    for k, entry in enumerate(test["classes"]):
        errors = matrix[k].copy()
        errors[k] = 0
        other = labels[int(errors.argmax())] if errors.any() else ""
        cells = (labels[k], *(f"{entry[key]:.4f}" for key in ("precision", "recall", "f1")))
        rows.append(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in (*cells, other)) + "</tr>"
        )
    images = "".join(
        f"<h2>{html.escape(title)}</h2><img alt='{html.escape(title)}' "
        f"src='data:image/png;base64,{base64.b64encode(picture).decode()}'>"
        for title, picture in pictures.items()
    )
    facts = html.escape(json.dumps(manifest.provenance, indent=1, ensure_ascii=False))
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<title>{manifest.name} {manifest.version}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}}
img{{max-width:100%}} td,th{{padding:.2rem .8rem;text-align:left}} pre{{overflow-x:auto}}</style>
<h1>{manifest.name} <small>{manifest.version}</small></h1>
<p><b>{test["accuracy"]:.2%}</b> of {test["count"]:,} test images are right
({low:.2%} to {high:.2%}, 95 % interval): {test["count"] - test["correct"]:,} errors.
Calibration error {test["ece"]:.4f}, negative log-likelihood {test["nll"]:.4f}.
{manifest.parameters:,} parameters, {manifest.macs / 1e6:.2f} million multiply-accumulates.
The worst class by F1 is <b>{html.escape(str(worst["label"]))}</b>, {worst["f1"]:.4f}.</p>
<table><tr><th>class<th>precision<th>recall<th>F1<th>most often taken for</tr>
{"".join(rows)}</table>
{images}<h2>Network</h2>{summary}<h2>Provenance</h2><pre>{facts}</pre></html>
"""
