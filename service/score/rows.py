"""One row for each image, and the three formats a file of rows can have."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from service.score.storage import is_url, open_url

FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}


class Row(NamedTuple):
    """What was found for one image: an answer, or the `error` that kept it from being given.

    `truth` is the class its labels say it is ("" where they say nothing); `probabilities`, one for
    each class, are there if they were asked for.
    """

    path: str
    label: str | None = None
    index: int | None = None  # type: ignore[assignment]  # tuple.index is not missed
    confidence: float | None = None
    decision: str | None = None
    error: str | None = None
    truth: str = ""
    probabilities: list[float] | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """How rows are written: a format, the model and version they all carry, and the columns."""

    format: str
    model: str
    version: str
    truth: bool = False
    probabilities: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        fixed = ("path", "label", "index", "confidence", "decision", "error", "model", "version")
        more = (("truth", self.truth), ("probabilities", self.probabilities))
        return fixed + tuple(name for name, wanted in more if wanted)

    @property
    def head(self) -> bytes:
        """What stands before the first row."""
        return (",".join(self.columns) + "\n").encode() if self.format == "csv" else b""

    def encode(self, rows: Iterable[Row]) -> bytes:
        """Rows as bytes: to be concatenated after `head`; for parquet a file of its own."""
        if self.format == "csv":
            return self._csv(rows)
        if self.format == "jsonl":
            return b"".join(
                orjson.dumps(dict(zip(self.columns, self._values(row), strict=True))) + b"\n"
                for row in rows
            )
        return self._parquet(rows)

    def _values(self, row: Row) -> tuple[Any, ...]:
        path, label, index, confidence, decision, error, truth, probabilities = row
        fixed: tuple[Any, ...] = (
            shown(path),
            label,
            index,
            confidence,
            decision,
            error,
            self.model,
            self.version,
        )
        if self.truth:
            fixed += (truth,)
        return (*fixed, probabilities) if self.probabilities else fixed

    def _csv(self, rows: Iterable[Row]) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for row in rows:
            values = self._values(row)
            if self.probabilities:
                values = (*values[:-1], row.probabilities and json.dumps(row.probabilities))
            writer.writerow(values)
        return text.getvalue().encode()

    def _parquet(self, rows: Iterable[Row]) -> bytes:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = list(zip(*(self._values(row) for row in rows), strict=True))
        columns = columns or [()] * len(self.columns)
        arrays = [
            pa.array(column, field.type)
            for column, field in zip(columns, self.schema(), strict=True)
        ]
        sink = io.BytesIO()
        pq.write_table(pa.table(arrays, schema=self.schema()), sink, compression="zstd")
        return sink.getvalue()

    def schema(self) -> Any:
        """The columns as pyarrow has them."""
        import pyarrow as pa

        kinds = {
            "index": pa.int32(),
            "confidence": pa.float64(),
            "probabilities": pa.list_(pa.float64()),
        }
        return pa.schema([(name, kinds.get(name, pa.string())) for name in self.columns])


def shown(path: str) -> str:
    """A path as text: bytes that are not UTF-8 as \\xff, and then a backslash as two."""
    if path.isascii():
        return path
    try:
        path.encode()
    except UnicodeEncodeError:
        data = path.replace("\\", "\\\\").encode("utf-8", "surrogateescape")
        return data.decode("utf-8", "backslashreplace")
    return path


def hidden(text: str) -> str:
    """The path that `shown` gave as `text`, where it had to escape; else `text` itself."""
    try:
        data = text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")
    except (UnicodeDecodeError, UnicodeEncodeError):
        return text
    path = data.decode("utf-8", "surrogateescape")
    return path if shown(path) == text else text


def read_any(where: str) -> Iterator[dict[str, Any]]:
    """The rows of a finished output, a few at a time: a file, or a folder or URL of parquet."""
    kind = FORMATS.get(Path(where).suffix)
    if kind is None or kind == "parquet":
        import pyarrow.dataset as ds

        system, path = None, where
        if is_url(where):
            system, path = open_url(where)
        for batch in ds.dataset(path, format="parquet", filesystem=system).to_batches(
            batch_size=4096
        ):
            yield from batch.to_pylist()
    elif kind == "jsonl":
        with Path(where).open("rb") as file:
            yield from map(orjson.loads, file)
    else:
        with Path(where).open(encoding="utf-8", newline="") as file:
            for record in csv.DictReader(file):
                yield {name: value or None for name, value in record.items()}
