"""The class an image is known to be: its folder's name, or what a CSV says of its path."""

from __future__ import annotations

import csv
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from artifacts.manifest import Manifest
from service.score.rows import shown

Truth = Callable[[str], str]  # an image's path -> its class's English label, or ""


class BadLabels(Exception):
    """A file of labels that cannot be used; says why."""


def by_folder(manifest: Manifest) -> Truth:
    """The label that the image's own folder is named after."""
    names = spellings(manifest)

    def truth(path: str) -> str:
        return names.get(_plain(PurePosixPath(path).parent.name), "")

    return truth


def by_file(file: Path, manifest: Manifest) -> Truth:
    """The label in a CSV with the columns `path` and `label` (its head says so, or the first two).

    Kept in a temporary database on disk, so that a long file takes no memory. Raises BadLabels.
    """
    names = spellings(manifest)
    # An empty name is SQLite's own temporary database, which spills to disk and is gone at exit.
    database = sqlite3.connect("", check_same_thread=False)
    database.execute("CREATE TABLE truth (path TEXT PRIMARY KEY, label TEXT) WITHOUT ROWID")
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            records = csv.reader(lines)
            first = next(records, [])
            columns = [name.strip().lower() for name in first]
            where, what = 0, 1
            if "path" in columns and "label" in columns:
                where, what = columns.index("path"), columns.index("label")
            else:
                _add(database, file, [first], where, what)
            _add(database, file, records, where, what)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadLabels(f"{file}: cannot be read as CSV ({error})") from error

    def truth(path: str) -> str:
        row = database.execute("SELECT label FROM truth WHERE path = ?", (shown(path),)).fetchone()
        return names.get(_plain(row[0]), "") if row else ""

    return truth


def spellings(manifest: Manifest) -> dict[str, str]:
    """Every way to write a class (its label in any language, its index) -> its English label.

    Capitals, accents' spaces and punctuation do not count: no folder can be called T-shirt/top.
    """
    names = {str(index): label for index, label in enumerate(manifest.classes)}
    for labels in manifest.labels.values():
        names |= {_plain(name): label for name, label in zip(labels, manifest.classes, strict=True)}
    # English wins where another language's word is a different class.
    return names | {_plain(label): label for label in manifest.classes}


def _add(database: sqlite3.Connection, file: Path, records: object, where: int, what: int) -> None:
    for number, record in enumerate(records, 1):  # type: ignore[var-annotated, arg-type]
        if not record:
            continue
        if len(record) <= max(where, what):
            raise BadLabels(f"{file}: row {number} has {len(record)} columns, expected path,label")
        database.execute(
            "INSERT OR REPLACE INTO truth VALUES (?, ?)", (record[where], record[what])
        )


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "-", name.casefold()).strip("-")
