"""Which database a ledger's URL names, and how we connect to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import ArgumentError

LEDGER_FILE = "ledger.sqlite"


class BadLedger(ValueError):
    """A ledger URL that names no database we can use; the message never contains a password."""


def parse_url(text: str) -> URL:
    """The URL of a SQLite file or a PostgreSQL database, with the driver filled in.

    Raises BadLedger.
    """
    try:
        url = sql.make_url(text)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise BadLedger("the ledger's URL cannot be read; expected postgresql://...") from None
    scheme = url.drivername
    if scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if scheme == "sqlite" and url.database not in (None, "", ":memory:"):
        return url
    raise BadLedger(
        f"the ledger's URL begins with {scheme}:; expected postgresql:// or sqlite:///file"
    )


def file_url(state: Path) -> str:
    """The URL of the ledger that is kept in a state folder."""
    return "sqlite:///" + str((state / LEDGER_FILE).absolute())


def open_engine(url: URL, timeout_s: float) -> Engine:
    """An engine whose every wait, for a connection, a lock or an answer, ends in `timeout_s`."""
    pool = {"pool_size": 2, "max_overflow": 0, "pool_timeout": timeout_s}
    if url.drivername == "sqlite":
        engine = sql.create_engine(url, connect_args={"timeout": timeout_s}, **pool)
        sql.event.listen(engine, "connect", _set_up_sqlite)
        return engine
    milliseconds = int(timeout_s * 1000)
    arguments = {
        "application_name": "vitrine",
        "connect_timeout": max(2, int(timeout_s)),  # libpq takes whole seconds, at least two
        "tcp_user_timeout": milliseconds,
        "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
    }
    arguments = {name: value for name, value in arguments.items() if name not in url.query}
    try:
        return sql.create_engine(url, connect_args=arguments, pool_pre_ping=True, **pool)
    except ModuleNotFoundError as error:
        raise BadLedger(
            "PostgreSQL needs psycopg, which is not installed: pip install 'vitrine[postgres]'"
        ) from error


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where we say so
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")  # readers and the writer do not wait for each other
    cursor.execute("PRAGMA synchronous=FULL")  # a label that was answered survives a power cut
    cursor.close()
