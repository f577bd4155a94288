"""What the fields of a manifest must look like: checks that name the field that is wrong."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from typing import Any, cast

FILE = "manifest.json"
MAX_CLASSES = 1000


class BadArtifact(Exception):
    """A version folder, catalog or model that does not keep the contract; says what and where."""


def shown(found: object) -> str:
    """A value as an error message shows it: its `repr`, at most 60 characters."""
    text = repr(found)
    return text if len(text) <= 60 else text[:57] + "..."


def wrong(name: str, found: object, expected: str) -> BadArtifact:
    """The error for a field of the manifest, for the caller to raise."""
    return BadArtifact(f"{FILE}: {name} is {shown(found)}, expected {expected}; re-export")


def get(record: dict[str, Any], name: str, kind: type, inside: str = "") -> Any:
    """A field that must be there and of a JSON type; a whole number will do for a float."""
    value = record.get(name)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise wrong(inside + name, value, "a number in a float's range") from None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise wrong(inside + name, value, f"a JSON {_JSON[kind]}")
    return value


_JSON = {str: "string", dict: "object", list: "array", int: "integer", float: "number"}


def share(record: dict[str, Any], name: str, inside: str) -> float:
    """A field that must hold a number from 0 to 1."""
    value: float = get(record, name, float, inside)
    if not 0 <= value <= 1:
        raise wrong(inside + name, value, "0 to 1")
    return value


def read_labels(record: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """The classes' names by language; as many in each as in "en", all different."""
    labels = {
        language: tuple(get(record, language, list, "labels."))
        for language in sorted({"en", *record})
    }
    count = len(labels["en"])
    for language, names in labels.items():
        good = all(isinstance(name, str) and name and name.isprintable() for name in names)
        if not (good and len(names) == len(set(names)) == count and 2 <= count <= MAX_CLASSES):
            raise wrong(f"labels.{language}", list(names), "2 or more different names, as in en")
    return labels


def check_created(created: str) -> None:
    """Raise BadArtifact unless `created` is a time in UTC."""
    try:
        good = datetime.fromisoformat(created).utcoffset() == timedelta(0)
    except ValueError:
        good = False
    if not good:
        raise wrong("created", created, "a time in ISO 8601, UTC")


def check_quantiles(quantiles: dict[str, Any]) -> None:
    """Raise BadArtifact unless coverage levels are mapped to quantiles, both from 0 to 1."""
    for level in quantiles:
        if not re.fullmatch(r"0\.[0-9]{1,6}", level):
            raise wrong("quantiles", level, 'coverage levels such as "0.95"')
        share(quantiles, level, "quantiles.")


def check_references(references: dict[str, Any], classes: int) -> None:
    """Raise BadArtifact unless `classes` is a list of shares, and all else an open histogram."""
    for name, found in references.items():
        where = f"references.{name}"
        if name == "classes":
            _check_shares(where, found, classes)
            continue
        if not isinstance(found, dict):
            raise wrong(where, found, "an object with edges and shares")
        edges = get(found, "edges", list, where + ".")
        if not all(_is_number(edge) for edge in edges) or sorted(set(edges)) != edges:
            raise wrong(where + ".edges", edges, "numbers, each above the one before")
        _check_shares(where + ".shares", found.get("shares"), len(edges) + 1)


def check_test(test: dict[str, Any], classes: int) -> None:
    """Raise BadArtifact unless the figures that metrics and pages show are there and agree.

    Further ones may stand beside them; none at all says that the model was never evaluated.
    """
    if not test:
        return
    count, correct = (get(test, name, int, "test.") for name in ("count", "correct"))
    if not 0 <= correct <= count or not count:
        raise wrong("test.correct", correct, f"0 to {count}, the count, which is at least 1")
    accuracy = share(test, "accuracy", "test.")
    if not math.isclose(accuracy, correct / count, abs_tol=1e-4):
        raise wrong("test.accuracy", accuracy, f"{correct} of {count}")
    _check_shares("test.interval", test.get("interval"), 2)
    rows = test.get("confusion", [[0] * classes] * classes)
    square = isinstance(rows, list) and len(rows) == classes
    if not (square and all(_is_counts(row, classes) for row in rows)):
        raise wrong("test.confusion", rows, f"{classes} rows of {classes} counts")
    each = test.get("classes", [{}] * classes)
    if not (isinstance(each, list) and [type(entry) for entry in each] == [dict] * classes):
        raise wrong("test.classes", each, f"{classes} objects")


def _check_shares(where: str, found: object, count: int) -> None:
    good = isinstance(found, list) and len(found) == count
    if not (good and all(_is_number(part) and 0 <= part <= 1 for part in cast(list[Any], found))):
        raise wrong(where, found, f"{count} shares from 0 to 1")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_counts(row: object, length: int) -> bool:
    return (
        isinstance(row, list)
        and len(row) == length
        and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in row)
    )
