"""From a recipe's name to a published version: data, fit, calibrate, export, measure, publish."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from artifacts.manifest import MODEL_FILE, Manifest
from artifacts.store import NotFound, Store
from training import classical, export, imagenet
from training.arguments import chosen
from training.calibrate import Calibration, calibrate, calibrate_probabilities
from training.data import Images, Parts, load, load_test
from training.datasets import DATASETS, Dataset
from training.extra import joined, sha256
from training.fit import Device, Run, fit, logits_of
from training.footprint import peak_rss_mb
from training.nets import Network, build
from training.recipe import Backbone, Estimator, Recipe, settings
from training.recipes import RECIPES, recipe_named

RESULT = "result.json"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Where a run finds and leaves things; nothing here decides what it produces."""

    data: Path | None = None
    out: Path
    device: Device = "auto"
    resume: bool = False
    init_from: str = ""  # MODEL or MODEL@VERSION
    weights: Path | None = None  # file of ImageNet weights; None: wherever they are found
    extra: Images | None = None  # to learn from beside the data set's own


def train(recipe: Recipe, options: Options, store: Store) -> Manifest:
    """Run a recipe from beginning to end; the version is published and made live in `store`.

    Raises BadData, BadCheckpoint, BadWeights, ExportFailed, NotFound, ReadOnly.
    """
    start = time.perf_counter()
    dataset = DATASETS[recipe.dataset]
    sources = sources_of(recipe, options, store)
    initial = initial_weights(recipe, options, sources, store)
    teacher = teacher_of(recipe, sources, store) if recipe.teacher else None
    parts = load(dataset, options.data, recipe.split)
    if options.extra is not None:
        parts = replace(parts, train=joined(parts.train, options.extra))
    if isinstance(recipe.net, Estimator):
        draft = estimate(recipe, dataset, parts, options, start)
        return publish(draft, recipe, options, store)
    run = fit(
        recipe,
        parts,
        options.out,
        device=options.device,
        resume=options.resume,
        initial=initial,
        teacher=teacher,
        report=progress(),
    )
    calibration = calibration_of(recipe, run, parts, options, initial, teacher)
    if recipe.split != "standard":
        parts = load(dataset, options.data)
    draft = export.draft(
        run.average,
        recipe,
        dataset,
        calibration,
        parts.validation,
        provenance(recipe, dataset, parts.split_sha256, time.perf_counter() - start, options)
        | sources,
    )
    return publish(draft, recipe, options, store)


def publish(draft: export.Draft, recipe: Recipe, options: Options, store: Store) -> Manifest:
    """Measure on the test images, publish, make live, and leave the figures with the run."""
    test = load_test(DATASETS[recipe.dataset], options.data)
    manifest = export.publish(draft, recipe, test, store)
    store.activate(manifest.name, manifest.version)
    options.out.mkdir(parents=True, exist_ok=True)
    record = {
        "model": manifest.name,
        "version": manifest.version,
        "recipe": recipe.name,
        "seed": recipe.seed,
        "settings": manifest.provenance["settings"],
        "test": manifest.test,
    }
    (options.out / RESULT).write_text(json.dumps(record, indent=1) + "\n")
    return manifest


def estimate(
    recipe: Recipe, dataset: Dataset, parts: Parts, options: Options, start: float
) -> export.Draft:
    """A fitted and exported scikit-learn classifier.

    As of networks, one that was trained on every image is calibrated by a second one that was not.
    """
    estimator = measured = classical.fit_estimator(recipe, parts.train)
    if recipe.split == "author":
        parts = load(dataset, options.data)
        measured = classical.fit_estimator(recipe, parts.train)

    def chances(images: Images) -> NDArray[np.float64]:
        found: NDArray[np.float64] = measured.predict_proba(classical.flat(images.pixels))
        return found

    calibration = calibrate_probabilities(
        calibration=(chances(parts.calibration), parts.calibration.labels),
        validation=chances(parts.validation),
        pixels=parts.validation.pixels,
        uncertain_rate=recipe.uncertain_rate,
    )
    facts = provenance(recipe, dataset, parts.split_sha256, time.perf_counter() - start, options)
    return export.draft_estimator(estimator, recipe, dataset, calibration, parts.validation, facts)


def calibration_of(
    recipe: Recipe,
    run: Run,
    parts: Parts,
    options: Options,
    initial: dict[str, Tensor] | None,
    teacher: Network | None,
) -> Calibration:
    """Temperature and thresholds, always from images the measured network was not trained on.

    standard and author-80: calibration and validation part, each for its purpose. refit: the
    calibration part for both. author trains on every image, so a second network of the same
    recipe, trained on the standard split, stands in for it.
    """
    net, validation, calibration = run.average, parts.validation, parts.calibration
    if recipe.split == "author":
        parts = load(DATASETS[recipe.dataset], options.data, "standard")
        net = fit(
            recipe,
            parts,
            options.out / "validation",
            device=options.device,
            resume=options.resume and (options.out / "validation").exists(),
            initial=initial,
            teacher=teacher,
            report=progress(),
        ).average
        validation, calibration = parts.validation, parts.calibration
    elif recipe.split == "refit":
        validation = calibration
    return calibrate(
        calibration=(logits_of(net, calibration), calibration.labels),
        validation=(logits_of(net, validation), validation.labels),
        pixels=validation.pixels,
        uncertain_rate=recipe.uncertain_rate,
        alien_rate=recipe.alien_rate,
    )


def sources_of(recipe: Recipe, options: Options, store: Store) -> dict[str, str]:
    """The published versions that a run begins with and learns from: MODEL@VERSION, or empty.

    Resolved once: which version is live may change while a run lasts. Raises NotFound.
    """
    wanted = {
        "init_from": (options.init_from or recipe.init_from, "starts from"),
        "teacher": (recipe.teacher, "learns from"),
    }
    found = dict.fromkeys(wanted, "")
    for source, (name, does) in wanted.items():
        if not name:
            continue
        try:
            model, version = chosen(store, name)
            store.folder(model, version)
        except NotFound as error:
            model = name.partition("@")[0]
            hint = f"; `vitrine-train run {model}` first" if model in RECIPES else ""
            raise NotFound(f"{recipe.name} {does} {name}: {error}{hint}") from error
        found[source] = f"{model}@{version}"
    return found


def initial_weights(
    recipe: Recipe, options: Options, sources: dict[str, str], store: Store
) -> dict[str, Tensor] | None:
    """What training starts from: a published version, ImageNet's weights, or None: chance.

    Raises BadWeights, NotFound.
    """
    if source := sources["init_from"]:
        return published_weights(store, source)
    if isinstance(recipe.net, Backbone) and recipe.net.pretrained:
        return imagenet.read(recipe.net.architecture, options.weights, options.data)
    return None


def published_weights(store: Store, source: str) -> dict[str, Tensor]:
    """The weights of MODEL@VERSION. Raises NotFound."""
    folder = store.folder(*chosen(store, source))
    return export.weights((folder / MODEL_FILE).read_bytes())


def teacher_of(recipe: Recipe, sources: dict[str, str], store: Store) -> Network:
    """The network of a published model, in evaluation mode. Raises NotFound."""
    net = build(recipe_named(recipe.teacher))
    net.load(published_weights(store, sources["teacher"]))
    return net.eval()


def provenance(
    recipe: Recipe, dataset: Dataset, split_sha256: str, duration_s: float, options: Options
) -> dict[str, Any]:
    """Where a version came from: enough to make it again."""
    return {
        "recipe": recipe.name,
        "settings": json.loads(json.dumps(settings(recipe))),
        "seed": recipe.seed,
        "weights": weights_of(recipe),
        "extra": None
        if options.extra is None
        else {"count": len(options.extra), "sha256": sha256(options.extra)},
        "commit": commit(),
        "libraries": {name: installed(name) for name in ("numpy", "onnx", "onnxscript", "torch")},
        "python": platform.python_version(),
        "dataset": dataset.name,
        "data_licence": dataset.licence,
        "data_sha256": dataset.sha256,
        "split": recipe.split,
        "split_sha256": split_sha256,
        "duration_s": round(duration_s, 1),
        **peak_memory(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'}",
    }


def peak_memory() -> dict[str, int]:
    """The most memory this process has held, in MB: its own, and the GPU's where one was used."""
    found = {"peak_rss_mb": int(peak_rss_mb())}
    if torch.cuda.is_available():
        found["peak_gpu_mb"] = torch.cuda.max_memory_allocated() // 10**6
    return found


def weights_of(recipe: Recipe) -> dict[str, str] | None:
    """The published ImageNet weights that a recipe starts from."""
    if not (isinstance(recipe.net, Backbone) and recipe.net.pretrained):
        return None
    published = imagenet.PUBLISHED[recipe.net.architecture]
    return {"file": published.file, "sha256": published.sha256, "licence": published.licence}


def commit() -> str:
    """The checkout's commit, marked when sources differ from it; empty outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, check=True)  # noqa: S603
        changed = subprocess.run(  # noqa: S603
            [*git, "status", "--porcelain", "--", "."], capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.decode().strip() + ("-modified" if changed.stdout else "")


def run_folder(root: Path, name: str) -> Path:
    """A new folder for a run, named by recipe and time."""
    return root / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def latest(root: Path, name: str) -> Path | None:
    """The youngest run of a recipe: the one that --resume continues."""
    found = [p for p in root.glob(f"{name}-*") if p.name.removeprefix(f"{name}-")[:8].isdigit()]
    return max(found, default=None)


def progress() -> Any:
    """A reporter for `fit`: a bar for each epoch on a terminal, else a line for each."""
    bar: tqdm[Any] | None = None

    def report(run: Run, share: float) -> None:
        nonlocal bar
        epoch = len(run.history) + 1
        if sys.stderr.isatty():
            if bar is None:
                bar = tqdm(total=100, desc=f"epoch {epoch}/{run.recipe.epochs}", file=sys.stderr)
            bar.update(round(share * 100) - bar.n)
            if share >= 1:
                bar.close()
                bar = None
        elif share == 1 and run.history:
            line = run.history[-1]
            shown = ", ".join(f"{key} {line[key]:.4g}" for key in line if key != "epoch")
            print(f"epoch {epoch - 1}/{run.recipe.epochs}: {shown}", file=sys.stderr)

    return report
