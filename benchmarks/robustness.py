"""How well a running service holds up on pictures as people send them, over HTTP.

    python -m benchmarks.robustness --task digits --data data --out robustness.json
    python -m benchmarks.robustness --task fashion --data data --url http://localhost:3000

Without --url a service of its own is started and ended. Each answer is compared with that of the
same version in this process. Exit 0 when all are the same and every target is met, else 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifacts.images import decode
from artifacts.model import Model, load
from artifacts.store import NotFound, Store
from benchmarks.accuracy import DATASETS, ask, manifest_of, png
from benchmarks.drift import service
from training import data, photographs, strangers
from training.corruptions import KINDS, MNIST_C_STYLE
from training.data import Images
from training.robustness import look

# Some pictures are files of their own; the others are sent as PNGs.
Maker = Callable[[NDArray[np.uint8], int], bytes]
JPEGS: dict[str, Maker] = {
    "jpeg 50": partial(photographs.as_jpeg, quality=50),
    "jpeg 20": partial(photographs.as_jpeg, quality=20),
}
FILES: dict[str, dict[str, Maker]] = {
    "digits": JPEGS | {"transparent": photographs.as_ink},
    "fashion": JPEGS | {"transparent": photographs.as_cut_out},
}
# The least share right, 0..1; those below 0 are relative to the same images as they are.
TARGETS = {
    "digits": {
        **dict.fromkeys(("inverted", "shift 6", "scale 0.5", "scale 2"), -0.005),
        **dict.fromkeys(("thin strokes", "thick strokes", "transparent"), -0.005),
        "rotation 20": 0.985,
        "photo": 0.95,
        "MNIST-C-style, mean": 0.97,
        "MNIST-C-style, worst": 0.90,
    },
    "fashion": {"inverted": -0.01, "white ground": -0.01, "shift 3": 0.93},
}
CHUNK = 10  # pictures in one request: some are large
OTHERS = 0.97  # digits from another source


class Row(NamedTuple):
    """One set of pictures, and the shares of them that were right and as in this process."""

    name: str
    pictures: int
    measured: float
    target: float | None
    differ: int | None  # answers unlike this process's; None where its version is not here

    @property
    def met(self) -> bool:
        """Whether nothing is to be mended."""
        return not self.differ and (self.target is None or self.measured >= self.target - 1e-9)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; see the module's own words."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python -m benchmarks.robustness --task digits --data data",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", default="digits", choices=TARGETS, help="(%(default)s)")
    parser.add_argument("--model", help="a model's name; the task's model if not given")
    parser.add_argument("--url", help="of a running service; none: one is started")
    parser.add_argument("--state", type=Path, help="a state folder whose models are served, too")
    parser.add_argument("--data", type=Path, help="folder of the data sets (or VITRINE_DATA)")
    parser.add_argument(
        "--count", type=int, default=500, help="test images of each kind (%(default)s)"
    )
    parser.add_argument("--out", type=Path, help="write the figures into this file (.json)")
    arguments = parser.parse_args(argv)
    name = arguments.model or arguments.task
    test = data.load_test(data.dataset_named(DATASETS[arguments.task]), arguments.data)
    with contextlib.ExitStack() as stack:
        url = arguments.url
        if url is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vitrine-")))
            url = stack.enter_context(service(folder, arguments.state))
        manifest = manifest_of(url, name)
        title = f"{manifest['name']} {manifest['version']} over HTTP"
        model = _here(arguments.state, manifest["name"], manifest["version"])
        whole = _asked(url, name, model, "all test images", [*map(png, test.pixels)], test.labels)
        some = test.take(np.arange(min(arguments.count, len(test))))
        rows = [whole, *_rows(url, name, model, arguments.task, some)]
    stated = manifest["test"]
    same = whole.pictures == stated["count"] and whole.measured == stated["accuracy"]
    print(f"{title}: test accuracy {'as' if same else 'NOT AS'} in the manifest")
    print(table(rows))
    if arguments.out:
        record = {
            "model": manifest["name"],
            "version": manifest["version"],
            "as_in_the_manifest": same,
            "pictures": [row._asdict() | {"met": row.met} for row in rows],
        }
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0 if same and all(row.met for row in rows) else 1


def _rows(url: str, name: str, model: Model | None, task: str, some: Images) -> Iterator[Row]:
    """Each kind of picture, as it is measured."""
    clean = _asked(url, name, model, "as they are", [*map(png, some.pixels)], some.labels)
    yield clean

    def target(kind: str) -> float | None:
        least = TARGETS[task].get(kind)
        return clean.measured + least if least is not None and least < 0 else least

    style = []
    for kind, corrupt in KINDS["digit" if task == "digits" else "garment"].items():
        own = FILES[task].get(kind)
        files = [
            own(image, seed) if own else png(corrupt(image, seed))
            for seed, image in enumerate(some.pixels)
        ]
        row = _asked(url, name, model, kind, files, some.labels)._replace(target=target(kind))
        yield row
        if kind in MNIST_C_STYLE:
            style.append(row.measured)
    if task == "digits":
        for what, share in (("mean", float(np.mean(style))), ("worst", min(style))):
            kind = f"MNIST-C-style, {what}"
            yield Row(kind, len(style) * len(some), share, target(kind), None)
        for kind, other in strangers.other_digits().items():
            files = [*map(png, other.pixels)]
            about = f"scikit-learn's, {kind}"
            yield _asked(url, name, model, about, files, other.labels)._replace(target=OTHERS)


def _asked(
    url: str,
    name: str,
    model: Model | None,
    kind: str,
    files: list[bytes],
    labels: NDArray[np.uint8],
) -> Row:
    """One set of files, asked about over HTTP and in this process."""
    found = ask(url, name, files, kind, CHUNK)
    differ = None
    if model is not None:
        differ = int((look(model, map(decode, files)).classes != found).sum())
    row = Row(kind, len(files), float((found == labels).mean()), None, differ)
    print(f"{kind}: {row.measured:.2%}", file=sys.stderr, flush=True)
    return row


def _here(state: Path | None, name: str, version: str) -> Model | None:
    """The same version in this process; None where it is not to be had."""
    try:
        return load(Store(state).folder(name, version), execution_provider="cpu")
    except NotFound:
        return None


def table(rows: Sequence[Row]) -> str:
    """The figures for people, in percent."""
    lines = [f"{'pictures':<48} {'count':>6} {'target':>7} {'measured':>8}"]
    for row in rows:
        least = "" if row.target is None else f"{row.target * 100:.2f}"
        short = "" if row.target is None or row.measured >= row.target - 1e-9 else "  MISSED"
        unlike = f"  {row.differ} UNLIKE IN PROCESS" if row.differ else ""
        measured = f"{row.measured * 100:>8.2f}"
        lines.append(f"{row.name:<48} {row.pictures:>6,} {least:>7} {measured}{short}{unlike}")
    compared = [row for row in rows if row.differ is not None]
    if compared:
        unlike_all = sum(row.differ or 0 for row in compared)
        count = sum(row.pictures for row in compared)
        lines.append(f"{count - unlike_all:,} of {count:,} answers are those given in this process")
    else:
        lines.append("not compared: this version is not in the store of this process")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
