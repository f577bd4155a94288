"""The verbs that write pages about trained models: `report`, `compare` and `card`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from artifacts.manifest import read as read_manifest
from artifacts.store import Store
from training import evidence
from training.arguments import AddVerb, chosen, positive, store_for, with_data, with_state


def add_verbs(verb: AddVerb) -> None:
    sub = verb(
        "report",
        report,
        "Write a run's HTML page and pictures.",
        "report runs/mnist-cnn-20260101-120000 --language pt",
    )
    sub.add_argument("run", type=Path, help="folder of a finished run")
    sub.add_argument("--language", choices=("en", "pt"), default="en", help="of the labels")
    sub.add_argument(
        "--image",
        type=int,
        default=0,
        metavar="N",
        help="row of the test image that is followed through the network (%(default)s)",
    )
    with_data(sub)
    with_state(sub)
    sub = verb(
        "compare",
        compare,
        "Write a page that compares all models; of two models, say which is better.",
        "compare --runs runs           # docs/models.md, with the seeds found in runs\n"
        "  vitrine-train compare mnist-cnn mnist-mlp256x2",
    )
    sub.add_argument("models", nargs="*", metavar="MODEL[@VERSION]", help="two, or none for all")
    sub.add_argument(
        "--runs",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="count the finished runs in and below, each by its recipe and seed",
    )
    sub.add_argument(
        "--only-new",
        action="store_true",
        help="measure only versions that were not measured before; the others are as they were",
    )
    sub.add_argument("--out", type=Path, default=Path("docs/models.md"), help="(%(default)s)")
    add_evidence(sub)
    with_data(sub)
    with_state(sub)
    sub = verb(
        "card",
        card,
        "Print a version's model card, or write the cards of all live models.",
        "card mnist-cnn\n  vitrine-train card --all --out docs/cards",
    )
    sub.add_argument("model", nargs="?", metavar="MODEL[@VERSION]")
    sub.add_argument("--all", action="store_true", help="of every live model")
    sub.add_argument("--out", type=Path, metavar="FOLDER", help="write MODEL.md there")
    sub.add_argument(
        "--robustness",
        type=positive,
        metavar="N",
        help="measure it on N test images, and remember it",
    )
    add_evidence(sub)
    with_data(sub)
    with_state(sub)


def add_evidence(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--evidence",
        type=Path,
        default=evidence.FILE,
        metavar="FILE",
        help="what is remembered beside the manifests: seeds, robustness, figures (%(default)s)",
    )


def report(arguments: argparse.Namespace) -> int:
    from training.report import write_report

    run, language, image = arguments.run, arguments.language, arguments.image
    try:
        page = write_report(run, store_for(arguments), arguments.data, language, image)
    except FileNotFoundError as error:
        print(f"vitrine-train: {error.filename}: no finished run is there", file=sys.stderr)
        return 1
    except IndexError:
        print(f"vitrine-train: there is no test image {image}", file=sys.stderr)
        return 1
    print(page)
    return 0


def compare(arguments: argparse.Namespace) -> int:
    store = store_for(arguments)
    if len(arguments.models) == 2:
        from training.duel import fight

        first, second = (chosen(store, name) for name in arguments.models)
        print(fight(store, first, second, arguments.data))
        return 0
    if arguments.models:
        print("vitrine-train: compare takes two models, or none for all", file=sys.stderr)
        return 2
    from training import comparison
    from training.compare import compare as measured

    known = evidence.read(arguments.evidence)
    if arguments.runs:
        for folder, why in evidence.gather(known, arguments.runs, store).items():
            print(f"left out {folder}: {why}", file=sys.stderr)
        evidence.write(known, arguments.evidence)
    rows = measured(
        store,
        known,
        arguments.data,
        only_new=arguments.only_new,
        say=lambda name: print(name, file=sys.stderr),
    )
    evidence.write(known, arguments.evidence)
    comparison.write(rows, known, arguments.out)
    print(arguments.out)
    return 0


def write_card(store: Store, model: str, version: str, docs: Path) -> Path:
    """The card of a version in `docs`, with what is remembered there of it."""
    from training import cards

    known = evidence.read(docs / evidence.FILE.name)
    return cards.write(read_manifest(store.folder(model, version)), known, docs / "cards")


def card(arguments: argparse.Namespace) -> int:
    from training import cards

    store = store_for(arguments)
    if bool(arguments.model) == arguments.all:
        print("vitrine-train: card takes a model, or --all", file=sys.stderr)
        return 2
    live = store.catalog().live
    wanted = (
        [(name, entry.version) for name, entry in sorted(live.items()) if entry.version]
        if arguments.all
        else [chosen(store, arguments.model)]
    )
    known = evidence.read(arguments.evidence)
    for model, version in wanted:
        if arguments.robustness:
            found = measured_robustness(store, model, version, arguments)
            if found is not None:
                known.robustness[version] = found
                evidence.write(known, arguments.evidence)
        manifest = read_manifest(store.folder(model, version))
        if arguments.out:
            print(cards.write(manifest, known, arguments.out))
        else:
            print(cards.card(manifest, known))
    return 0


def measured_robustness(
    store: Store, model: str, version: str, arguments: argparse.Namespace
) -> dict[str, object] | None:
    """None for models of photographs, whose corruptions are not known here."""
    from artifacts.model import load
    from training.data import load_test
    from training.datasets import DATASETS
    from training.robustness import robustness

    loaded = load(store.folder(model, version), execution_provider="cpu")
    if loaded.manifest.input.canonicaliser == "photo":
        return None
    print(f"robustness of {model}", file=sys.stderr)
    test = load_test(DATASETS[loaded.manifest.provenance["dataset"]], arguments.data)
    return robustness(loaded, test, arguments.robustness, arguments.data)
