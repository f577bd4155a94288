"""`vitrine feedback export`: the ledger's labels as a table, and the images kept for them."""

from __future__ import annotations

import argparse
import csv
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from artifacts.manifest import Manifest
from artifacts.store import Store
from service import capture
from service.database import BadLedger, file_url
from service.feedback import Versions
from service.ledger import Ledger, Source, Unavailable
from service.settings import Settings

COLUMNS = (
    *("receipt", "source", "model", "version", "label", "index"),
    *("predicted", "predicted_index", "correct", "confidence", "predicted_at", "labelled_at"),
)
Row = dict[str, Any]
Find = Callable[[str], Manifest | None]


class BadExport(Exception):
    """An export that cannot be written as it was asked for; says why."""


class Exported(NamedTuple):
    """How many labels were written, and how many images beside them."""

    labels: int
    images: int


def export(
    ledger: Ledger,
    find: Find,
    out: Path,
    *,
    model: str | None = None,
    source: Source | None = None,
    images: Path | None = None,
    captured: Path | None = None,
) -> Exported:
    """Write every label to `out` (.csv or .parquet), complete or not at all.

    `find` gives a version's manifest, for the names of its classes. With `images`, the captured
    image of each label is copied there, into a folder named after its true class, and a
    `labels.csv` (path,label) beside them lists all. Raises BadExport, Unavailable.
    """
    writers = {".csv": _write_csv, ".parquet": _write_parquet}
    if out.suffix not in writers:
        raise BadExport(f"{out.name}: its name ends in neither .csv nor .parquet")
    kept: list[tuple[str, str]] = []

    def rows() -> Iterator[list[Row]]:
        for chunk in ledger.export(model, source):
            named = [_named(row, find(row["version"])) for row in chunk]
            if images is not None and captured is not None:
                kept.extend(_copy(row, images, captured) for row in named)
            yield named

    with tempfile.TemporaryDirectory(prefix=".export-", dir=out.absolute().parent) as folder:
        draft = Path(folder) / out.name
        count = writers[out.suffix](rows(), draft)
        draft.replace(out)
    paths = [(path, label) for path, label in kept if path]
    if images is not None:
        images.mkdir(parents=True, exist_ok=True)
        with (images / "labels.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *sorted(set(paths))])
    return Exported(count, len(set(paths)))


def command(arguments: argparse.Namespace, settings: Settings) -> int:
    """`vitrine feedback export`; 0 done, 1 the ledger or the disk failed, 2 misuse."""
    state = arguments.state or settings.state
    try:
        ledger = Ledger(settings.ledger_url or ("" if state is None else file_url(state)))
        done = export(
            ledger,
            Versions(Store(state)).get,
            arguments.out,
            model=arguments.model,
            source=arguments.source,
            images=arguments.images,
            captured=None if state is None else state / capture.FOLDER,
        )
    except (BadLedger, BadExport) as error:
        print(f"vitrine: {error}", file=sys.stderr)
        return 2
    except (Unavailable, OSError) as error:
        print(f"vitrine: {error}", file=sys.stderr)
        return 1
    ledger.close()
    beside = f", {done.images} images in {arguments.images}" if arguments.images else ""
    print(f"{done.labels} labels in {arguments.out}{beside}")
    return 0


def _named(row: Row, manifest: Manifest | None) -> Row:
    true, predicted = row["true_class"], row["predicted_class"]
    name = str if manifest is None else manifest.classes.__getitem__
    return {
        "receipt": row["receipt"],
        "source": row["source"],
        "model": row["model"],
        "version": row["version"],
        "label": name(true),
        "index": true,
        "predicted": name(predicted),
        "predicted_index": predicted,
        "correct": true == predicted,
        "confidence": row["confidence"],
        "predicted_at": datetime.fromtimestamp(row["predicted_at"], UTC).isoformat(),
        "labelled_at": datetime.fromtimestamp(row["labelled_at"], UTC).isoformat(),
    }


def _copy(row: Row, images: Path, captured: Path) -> tuple[str, str]:
    """The copied image's path within `images`, "" when none was kept, and its label."""
    issued = datetime.fromisoformat(row["predicted_at"]).timestamp()
    found = capture.find(captured, row["receipt"], issued)
    if found is None:
        return "", row["label"]
    # No folder can be called T-shirt/top.
    folder = images / re.sub(r"[^\w.-]+", "-", row["label"])
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(found, folder / found.name)
    return f"{folder.name}/{found.name}", row["label"]


def _write_csv(chunks: Iterable[list[Row]], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for chunk in chunks:
            writer.writerows(chunk)
            count += len(chunk)
    return count


def _write_parquet(chunks: Iterable[list[Row]], path: Path) -> int:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise BadExport(
            "Parquet needs pyarrow, which is not installed: pip install 'vitrine[score]'"
        ) from error
    text, whole = pa.string(), pa.int32()
    types = dict.fromkeys(COLUMNS, text) | {
        "index": whole,
        "predicted_index": whole,
        "correct": pa.bool_(),
        "confidence": pa.float64(),
    }
    schema = pa.schema(list(types.items()))
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        for chunk in chunks:
            writer.write_table(pa.Table.from_pylist(chunk, schema))
            count += len(chunk)
    return count
