"""A PostgreSQL server of the tests' own, in a temporary folder (Debian's package `postgresql`)."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql


@dataclass(frozen=True)
class Postgres:
    """A cluster on a port of its own; `stop` and `start` it as an operator would."""

    folder: Path
    port: int

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"ledger_{secrets.token_hex(4)}"
        server = f"postgresql://vitrine@127.0.0.1:{self.port}"
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return f"{server}/{name}"

    def start(self) -> None:
        """Returns when the server accepts connections."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        _run(
            "pg_ctl", "-D", self.data, "-l", str(self.folder / "log"), "-w", "-o", options, "start"
        )

    def stop(self) -> None:
        """Returns when the server is gone; its connections are cut."""
        _run("pg_ctl", "-D", self.data, "-w", "-m", "immediate", "stop")

    @property
    def data(self) -> str:
        """The cluster's own folder."""
        return str(self.folder / "data")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A fresh cluster, running; removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="vitrine-postgres-"))
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        os.chown(folder, _user().pw_uid, _user().pw_gid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = Postgres(folder, probe.getsockname()[1])
    try:
        _run("initdb", "-D", server.data, "-U", "vitrine", "-A", "trust", "-E", "UTF8", "-N")
        server.start()
        try:
            yield server
        finally:
            subprocess.run(
                [_program("pg_ctl"), "-D", server.data, "-m", "immediate", "stop"],
                check=False,  # a test may have stopped it
                capture_output=True,
                **_identity(),
            )
    finally:
        shutil.rmtree(folder)


def _run(name: str, *arguments: str) -> None:
    subprocess.run(
        [_program(name), *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=60,
        cwd="/",
        **_identity(),
    )


def _program(name: str) -> str:
    """Debian keeps PostgreSQL's own programs out of PATH, by version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    path = str(found[-1]) if found else shutil.which(name)
    assert path, f"{name} is missing: install PostgreSQL (Debian: apt-get install postgresql)"
    return path


def _user() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


def _identity() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    return {"user": _user().pw_uid, "group": _user().pw_gid, "extra_groups": []}
