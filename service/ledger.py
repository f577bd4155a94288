"""The ledger of true labels: one database, SQLite or PostgreSQL, that every worker shares."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from service.database import open_engine, parse_url

SCHEMA = 1
# A database that does not answer within this is as good as absent; nobody waits longer for it.
TIMEOUT_S = 2.0

Source = Literal["user", "audit"]
SOURCES: tuple[Source, ...] = get_args(Source)
Outcome = Literal["recorded", "known", "contradicted"]

_tables = sql.MetaData()
# Keyed by receipt and source: a person's report and an audit's label of one prediction are two
# measurements. If a report kept the audit's out, the audit would miss just the reported errors.
labels = sql.Table(
    "vitrine_labels",
    _tables,
    sql.Column("receipt", sql.String(52), primary_key=True),
    sql.Column("source", sql.String(8), primary_key=True),
    sql.Column("model", sql.String(64), nullable=False),
    sql.Column("version", sql.String(12), nullable=False),
    sql.Column("true_class", sql.Integer, nullable=False),
    sql.Column("predicted_class", sql.Integer, nullable=False),
    sql.Column("confidence", sql.Float(53), nullable=False),
    sql.Column("predicted_at", sql.BigInteger, nullable=False),  # Unix seconds
    sql.Column("labelled_at", sql.Float(53), nullable=False),  # Unix seconds
    # All that a window's counts need: a million labels of a day are summed without their rows.
    sql.Index(
        "vitrine_labels_by_time",
        *("version", "labelled_at", "source", "true_class", "predicted_class"),
    ),
    sqlite_with_rowid=False,
)
# The counts of `labels`, kept in the same transactions: a scrape reads these few rows.
totals = sql.Table(
    "vitrine_totals",
    _tables,
    sql.Column("model", sql.String(64), primary_key=True),
    sql.Column("version", sql.String(12), primary_key=True),
    sql.Column("source", sql.String(8), primary_key=True),
    sql.Column("true_class", sql.Integer, primary_key=True),
    sql.Column("predicted_class", sql.Integer, primary_key=True),
    sql.Column("count", sql.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
_schema = sql.Table("vitrine_schema", _tables, sql.Column("schema", sql.Integer, primary_key=True))


class Unavailable(Exception):
    """The ledger cannot be read or written now; the message is for the log, not for a client."""


@dataclass(frozen=True, slots=True)
class Label:
    """What one prediction should have been, and who says so."""

    receipt: str
    source: Source
    model: str
    version: str
    true_class: int
    predicted_class: int
    confidence: float  # of the prediction, 0..1
    predicted_at: int  # Unix seconds


@dataclass(frozen=True, slots=True)
class Total:
    """How many labels there are of one kind."""

    model: str
    version: str
    source: Source
    true_class: int
    predicted_class: int
    count: int


class Ledger:
    """The database, synchronously; any number of threads and processes may use it at once.

    Connects when first used and again after any failure, so that it recovers with the database.
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S, problem: str = "") -> None:
        """Raises BadLedger. With a `problem`, and any URL, every use of it is Unavailable."""
        self._problem = problem
        parsed = parse_url("sqlite:///none" if problem else url)
        self._file = Path(parsed.database or "") if parsed.drivername == "sqlite" else None
        self._engine = open_engine(parsed, timeout_s)
        self._insert: Callable[..., Any] = sqlite.insert if self._file else postgresql.insert
        self._seen: object = None  # which database the schema was last checked in

    def record(self, given: Sequence[Label], now: float | None = None) -> list[Outcome]:
        """Write labels in one transaction, committed when this returns; an outcome for each.

        `known`: the same label was there before. `contradicted`: another one was, which stays.
        Raises Unavailable; then nothing was written, or all of it was and a repetition is `known`.
        """
        wanted: dict[tuple[str, str], Label] = {}
        for label in given:
            wanted.setdefault((label.receipt, label.source), label)
        with self._transaction() as connection:
            # In one order, so that two workers writing the same rows cannot deadlock.
            order = sorted(wanted)
            new = self._insert_labels(connection, [wanted[key] for key in order], now)
            self._count(connection, [wanted[key] for key in order if key in new])
            stored = {key: wanted[key].true_class for key in new}
            stored |= _stored(connection, [key for key in order if key not in new])
        outcomes: list[Outcome] = []
        for label in given:
            key = (label.receipt, label.source)
            if stored[key] != label.true_class:
                outcomes.append("contradicted")
            elif key in new:
                outcomes.append("recorded")
                new.remove(key)  # once; a repetition within `given` is known
            else:
                outcomes.append("known")
        return outcomes

    def totals(self) -> list[Total]:
        """Every total since the beginning. Raises Unavailable."""
        with self._reading() as connection:
            return [Total(*row) for row in connection.execute(sql.select(totals))]

    def counts(self, model: str, version: str, since: float | None = None) -> list[Total]:
        """One version's totals, of labels given at `since` (Unix seconds) or later.

        Raises Unavailable.
        """
        if since is None:
            query = sql.select(totals).where(totals.c.version == version)
        else:
            kind = [labels.c.source, labels.c.true_class, labels.c.predicted_class]
            query = (
                sql.select(sql.literal(model), sql.literal(version), *kind, sql.func.count())
                .where(labels.c.version == version, labels.c.labelled_at >= since)
                .group_by(*kind)
            )
        with self._reading() as connection:
            return [Total(*row) for row in connection.execute(query)]

    def export(
        self, model: str | None = None, source: Source | None = None, chunk: int = 10_000
    ) -> Iterator[list[dict[str, Any]]]:
        """Every label, a chunk of rows at a time, in the order of (receipt, source).

        Pages by key, so that no transaction stays open and memory is bounded. Raises Unavailable.
        """
        after: tuple[str, str] | None = None
        while True:
            query = sql.select(labels).order_by(labels.c.receipt, labels.c.source).limit(chunk)
            if model is not None:
                query = query.where(labels.c.model == model)
            if source is not None:
                query = query.where(labels.c.source == source)
            if after is not None:
                query = query.where(sql.tuple_(labels.c.receipt, labels.c.source) > after)
            with self._reading() as connection:
                rows = [dict(row) for row in connection.execute(query).mappings()]
            if rows:
                yield rows
            if len(rows) < chunk:
                return
            after = (rows[-1]["receipt"], rows[-1]["source"])

    def close(self) -> None:
        """Let go of all connections; using the ledger again connects again."""
        self._engine.dispose()

    def _insert_labels(
        self, connection: Connection, ordered: list[Label], now: float | None
    ) -> set[tuple[str, str]]:
        labelled_at = time.time() if now is None else now
        rows = [
            {
                "receipt": label.receipt,
                "source": label.source,
                "model": label.model,
                "version": label.version,
                "true_class": label.true_class,
                "predicted_class": label.predicted_class,
                "confidence": label.confidence,
                "predicted_at": label.predicted_at,
                "labelled_at": labelled_at,
            }
            for label in ordered
        ]
        if not rows:
            return set()
        statement = (
            self._insert(labels)
            .on_conflict_do_nothing()
            .returning(labels.c.receipt, labels.c.source)
        )
        return {(row[0], row[1]) for row in connection.execute(statement, rows)}

    def _count(self, connection: Connection, new: list[Label]) -> None:
        kinds = Counter(
            (label.model, label.version, label.source, label.true_class, label.predicted_class)
            for label in new
        )
        if not kinds:
            return
        columns = [column.name for column in totals.columns]
        statement = self._insert(totals)
        statement = statement.on_conflict_do_update(
            index_elements=list(totals.primary_key),
            set_={"count": totals.c.count + statement.excluded.count},
        )
        rows = [dict(zip(columns, (*kind, n), strict=True)) for kind, n in sorted(kinds.items())]
        connection.execute(statement, rows)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._translating():
            self._prepare()
            with self._engine.begin() as connection:
                if self._file:
                    # SQLite's default transaction begins as a reader, and fails at once where it
                    # would have to wait to become the writer; this one waits its turn.
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._translating():
            self._prepare()
            with self._engine.connect() as connection:
                yield connection

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            self._seen = None
            self._engine.dispose()
            cause = getattr(error, "orig", None) or error
            raise Unavailable(f"{type(cause).__name__}: {cause}") from error

    def _prepare(self) -> None:
        """Create or check the schema, once for each database that appears at the URL."""
        if self._problem:
            raise Unavailable(self._problem)
        identity = self._identity()
        if self._seen == identity is not None:
            return
        if self._file:
            self._engine.dispose()  # a connection to a file that was deleted would go on writing
            self._file.parent.mkdir(parents=True, exist_ok=True)
        found = self._schema()
        if found is None:
            self._create()
        elif found != SCHEMA:
            raise Unavailable(
                f"the ledger's schema is {found}, this release reads {SCHEMA}; "
                "use the release that wrote it, or another ledger"
            )
        self._seen = self._identity()

    def _schema(self) -> int | None:
        """The number of the schema that is there; asks for no lock. None for an empty database."""
        with self._engine.connect() as connection:
            if not sql.inspect(connection).has_table(_schema.name):
                return None
            return connection.scalar(sql.select(_schema.c.schema))

    def _create(self) -> None:
        with self._engine.begin() as connection:
            if self._file:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:  # two workers must not create the tables at once; the number is arbitrary
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(8479117)")
            _tables.create_all(connection)
            if connection.scalar(sql.select(_schema.c.schema)) is None:
                connection.execute(sql.insert(_schema).values(schema=SCHEMA))

    def _identity(self) -> object:
        """What tells this database from another at the same URL; None for a file not there."""
        if self._file is None:
            return "a server"
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino


def _stored(connection: Connection, keys: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for start in range(0, len(keys), 500):  # far below every database's limit on parameters
        receipts = [receipt for receipt, _ in keys[start : start + 500]]
        query = sql.select(labels.c.receipt, labels.c.source, labels.c.true_class)
        for receipt, source, true_class in connection.execute(
            query.where(labels.c.receipt.in_(receipts))
        ):
            found[receipt, source] = true_class
    return {key: found[key] for key in keys}
