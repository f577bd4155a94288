"""The command line of training: `vitrine-train`. Light until a verb that trains is called."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from artifacts.manifest import BadArtifact
from artifacts.manifest import read as read_manifest
from artifacts.store import RELEASE, NotFound, ReadOnly
from training import evidence, pages
from training.arguments import chosen, positive, store_for, summary, with_data, with_state
from training.data import BadData
from training.recipe import Backbone, BadRecipe, Recipe, settings
from training.recipes import RECIPES, recipe_named
from training.spaces import SPACES, space_named

NO_WEIGHTS = "none"  # of --weights
EXAMPLE = """example:
  vitrine-train run mnist-cnn --data data    # train, export, measure, publish
  vitrine-train release mnist-cnn            # copy the live version into the release
"""


def main(argv: list[str] | None = None) -> int:
    """0: done; 1: it failed, and stderr says why; 2: misuse."""
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.verb(arguments))
    except (BadArtifact, BadData, BadRecipe, NotFound, ReadOnly) as error:
        print(f"vitrine-train: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="vitrine-train",
        description="Train models by recipe, export them and publish them.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, function: Any, about: str, example: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(
            name,
            help=about,
            description=about,
            epilog=f"example:\n  vitrine-train {example}\n",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(verb=function)
        return sub

    sub = verb(
        "list",
        list_recipes,
        "Show every recipe, whether it is trained, and its figures: of the version that is live "
        "here or, `elsewhere`, of the one that was measured for docs/models.md.",
        "list",
    )
    pages.add_evidence(sub)
    with_state(sub)
    sub = verb("show", show, "Print a recipe's settings.", "show mnist-cnn")
    sub.add_argument("name", help="a recipe's name")
    sub = verb(
        "run",
        run,
        "Train a recipe; export, measure, publish and activate the result.",
        "run mnist-mlp256x2 --data data --device cpu",
    )
    sub.add_argument("name", help="a recipe's name; `list` shows them")
    with_data(sub)
    with_state(sub)
    sub.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    sub.add_argument("--epochs", type=int, help="instead of the recipe's")
    sub.add_argument("--seed", type=int, help="instead of the recipe's")
    sub.add_argument("--resume", action="store_true", help="go on where the latest run stopped")
    sub.add_argument("--init-from", default="", metavar="MODEL[@VERSION]", help="start from it")
    sub.add_argument(
        "--weights",
        metavar="FILE",
        help="ImageNet weights of a pretrained recipe, instead of finding or fetching them; "
        "`none` trains it from scratch",
    )
    sub.add_argument(
        "--extra",
        type=Path,
        metavar="FOLDER",
        help="learn from these images too: what `vitrine feedback export --images` wrote",
    )
    sub.add_argument("--out", type=Path, help="folder of the run (default: a new one in runs/)")
    sub = verb(
        "evaluate", evaluate, "Measure a published model on the test images.", "evaluate mnist-cnn"
    )
    sub.add_argument(
        "--robustness",
        type=int,
        default=0,
        metavar="N",
        help="also on the first N test images as people's own pictures may be, and on strangers",
    )
    sub.add_argument("--json", action="store_true", help="print everything as JSON")
    sub.add_argument("model", metavar="MODEL[@VERSION]")
    with_data(sub)
    with_state(sub)
    sub = verb(
        "release", release, "Copy a version into artifacts/models, live there.", "release mnist-cnn"
    )
    sub.add_argument("model", metavar="MODEL[@VERSION]")
    sub.add_argument("--task", action="store_true", help="let its task's name stand for it")
    with_state(sub)
    pages.add_verbs(verb)
    sub = verb(
        "search",
        search,
        "Try settings of a recipe; the validation images choose. The same command goes on.",
        "search cifar10-lenet --data data",
    )
    sub.add_argument("name", help=f"what to try: {', '.join(SPACES)}")
    with_data(sub)
    sub.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    sub.add_argument("--trials", type=positive, help="in all, earlier ones included")
    sub.add_argument("--epochs", type=positive, help="of a trial")
    sub.add_argument("--images", type=positive, help="train on the first so many only")
    sub.add_argument("--max-macs", type=positive, metavar="N", help="refuse nets with more")
    sub.add_argument("--seed", type=int, default=0, help="of what is tried (%(default)s)")
    sub.add_argument("--out", type=Path, help="folder of the study (runs/search-NAME)")
    sub = verb(
        "samples",
        samples,
        "Write the few test images that tests and examples use.",
        "samples --data data --out tests/data",
    )
    with_data(sub)
    sub.add_argument("--out", type=Path, default=Path("tests/data"))
    return top


def list_recipes(arguments: argparse.Namespace) -> int:
    store = store_for(arguments)
    live, measured = store.catalog().live, evidence.read(arguments.evidence).models
    print(
        f"{'recipe':<28} {'data set':<14} {'state':<9} {'test':>7} {'parameters':>11} {'MMAC':>7}"
        "  summary"
    )
    for recipe in RECIPES.values():
        entry, record, about = live.get(recipe.name), measured.get(recipe.name), recipe.summary
        if entry is not None and entry.version is not None:
            manifest = read_manifest(store.folder(recipe.name, entry.version))
            shown = figures(manifest.test["accuracy"], manifest.parameters, manifest.macs)
            state = "live"
        elif record is not None:  # its figures are known, its version is in another store
            accuracy = record["correct"] / record["count"]
            shown = figures(accuracy, record["parameters"], record["macs"])
            state = "elsewhere"
        else:
            shown = f"{'-':>7} {'-':>11} {'-':>7}"
            state, about = "untrained", f"{about} {recipe.note}".rstrip()
        print(f"{recipe.name:<28} {recipe.dataset:<14} {state:<9} {shown}  {about}")
    return 0


def figures(accuracy: float, parameters: int, macs: int) -> str:
    return f"{accuracy:>7.2%} {parameters:>11,} {macs / 1e6:>7.2f}"


def show(arguments: argparse.Namespace) -> int:
    for name, value in settings(recipe_named(arguments.name)).items():
        print(f"{name:<16} {value}")
    return 0


def run(arguments: argparse.Namespace) -> int:
    recipe = changed(recipe_named(arguments.name), arguments)
    from training.checkpoint import BadCheckpoint
    from training.datasets import DATASETS
    from training.export import ExportFailed
    from training.extra import load_extra
    from training.imagenet import BadWeights
    from training.train import Options, latest, run_folder, train

    root = Path("runs")
    out = arguments.out or (arguments.resume and latest(root, recipe.name))
    options = Options(
        data=arguments.data,
        out=out or run_folder(root, recipe.name),
        device=arguments.device,
        resume=arguments.resume,
        init_from=arguments.init_from,
        weights=Path(arguments.weights) if arguments.weights not in (None, NO_WEIGHTS) else None,
        extra=arguments.extra and load_extra(arguments.extra, DATASETS[recipe.dataset]),
    )
    try:
        manifest = train(recipe, options, store_for(arguments))
    except (BadCheckpoint, BadWeights, ExportFailed, ValueError) as error:
        print(f"vitrine-train: {error}", file=sys.stderr)
        return 1
    print(summary(manifest))
    print(f"run: {options.out}")
    return 0


def changed(recipe: Recipe, arguments: argparse.Namespace) -> Recipe:
    """The recipe with what the command line says instead. Raises BadRecipe."""
    if arguments.weights is not None:
        if not (isinstance(recipe.net, Backbone) and recipe.net.pretrained):
            raise BadRecipe(f"recipe {recipe.name} starts from no ImageNet weights: no --weights")
        if arguments.weights == NO_WEIGHTS:
            recipe = replace(recipe, net=replace(recipe.net, pretrained=False))
    fields = {name: getattr(arguments, name) for name in ("epochs", "seed")}
    return replace(recipe, **{name: value for name, value in fields.items() if value is not None})


def evaluate(arguments: argparse.Namespace) -> int:
    from artifacts.model import load
    from training.data import load_test
    from training.datasets import DATASETS
    from training.evaluate import measure

    store = store_for(arguments)
    model = load(store.folder(*chosen(store, arguments.model)), threads=os.cpu_count() or 1)
    dataset = DATASETS[model.manifest.provenance["dataset"]]
    test = load_test(dataset, arguments.data)
    figures = measure(model, test)
    held = None
    if arguments.robustness and model.manifest.input.canonicaliser != "photo":
        from training.robustness import robustness, table

        held = robustness(model, test, arguments.robustness, arguments.data, say=progress)
        progress("")
    if arguments.json:
        print(json.dumps({"model": model.manifest.name, "test": figures, "robustness": held}))
        return 0
    print(summary(replace(model.manifest, test=figures)))
    print(f"calibration error (ECE) {figures['ece']:.2%}, NLL {figures['nll']:.4f}")
    for row in figures["classes"]:
        print(f"  {row['label']:<12} F1 {row['f1']:.4f}  recall {row['recall']:.4f}")
    if held is not None:
        print(table(held))
    return 0


def progress(text: str) -> None:
    """What is done now, on one line of a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def release(arguments: argparse.Namespace) -> int:
    from training.release import NotReleasable
    from training.release import release as copy

    store = store_for(arguments)
    try:
        model, version = chosen(store, arguments.model)
        manifest = copy(store, model, version, RELEASE, as_task=arguments.task)
    except NotReleasable as error:
        print(f"vitrine-train: {error}", file=sys.stderr)
        return 1
    print(summary(manifest))
    print(pages.write_card(store, model, version, RELEASE.parents[1] / "docs"))
    return 0


def search(arguments: argparse.Namespace) -> int:
    space = space_named(arguments.name)
    from training.checkpoint import BadCheckpoint
    from training.search import BadStudy, Options, base_of
    from training.search import search as tried
    from training.studies import write

    out = arguments.out or Path("runs") / f"search-{space.name}"
    names = ("data", "device", "trials", "epochs", "images", "max_macs", "seed")
    options = Options(out=out, **{name: getattr(arguments, name) for name in names})
    try:
        study = tried(space, options)
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on ({out})", file=sys.stderr)
        return 130
    except (BadCheckpoint, BadStudy, ValueError) as error:
        print(f"vitrine-train: {error}", file=sys.stderr)
        return 1
    print(write(study, space, base_of(space, options), out))
    print(f"study: {out}")
    return 0


def samples(arguments: argparse.Namespace) -> int:
    from training.samples import write_samples

    for path in write_samples(arguments.out, arguments.data):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
