"""The verbs that write pages about trained models: `report` and `compare`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from training.arguments import AddVerb, store_for, with_data, with_state


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
        "compare", compare, "Write a page that compares all live models.", "compare --out page.md"
    )
    sub.add_argument("--out", type=Path, default=Path("docs/models.md"))
    with_state(sub)


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
    from training.compare import compare as measured
    from training.compare import write

    write(measured(store_for(arguments)), arguments.out)
    print(arguments.out)
    return 0
