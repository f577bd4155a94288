"""The ledger: every label once, on SQLite and on PostgreSQL, whatever happens to the database."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from service.clerk import Clerk
from service.database import BadLedger, file_url, parse_url
from service.ledger import Label, Ledger, Source, Unavailable
from tests.postgres import Postgres, postgres

VERSION = "3f2a9c0d11e2"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return file_url(tmp_path)
    cluster: Postgres = request.getfixturevalue("cluster")
    return cluster.database()


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = Ledger(url)
    yield opened
    opened.close()


def label(
    number: int, true: int = 7, predicted: int = 7, source: Source = "user", version: str = VERSION
) -> Label:
    receipt = f"receipt{number:045d}"
    return Label(receipt, source, "mnist-cnn", version, true, predicted, 0.5, 1_790_000_000)


def counted(ledger: Ledger) -> dict[tuple[str, int, int], int]:
    return {(t.source, t.true_class, t.predicted_class): t.count for t in ledger.totals()}


def test_a_label_is_counted_by_what_is_true_and_what_was_predicted(ledger: Ledger) -> None:
    assert ledger.record([label(1), label(2, true=1), label(3, source="audit")]) == ["recorded"] * 3
    assert counted(ledger) == {("user", 7, 7): 1, ("user", 1, 7): 1, ("audit", 7, 7): 1}


def test_the_same_label_again_is_known_and_counted_once(ledger: Ledger) -> None:
    assert ledger.record([label(1), label(1)]) == ["recorded", "known"]
    assert ledger.record([label(1), label(2)]) == ["known", "recorded"]
    assert counted(ledger) == {("user", 7, 7): 2}


def test_another_label_for_the_same_prediction_is_a_contradiction(ledger: Ledger) -> None:
    assert ledger.record([label(1), label(1, true=3)]) == ["recorded", "contradicted"]
    assert ledger.record([label(1, true=3), label(1)]) == ["contradicted", "known"]
    assert counted(ledger) == {("user", 7, 7): 1}


def test_an_audit_counts_beside_a_report_of_the_same_prediction(ledger: Ledger) -> None:
    ledger.record([label(1, true=3)])
    assert ledger.record([label(1, true=3, source="audit")]) == ["recorded"]
    assert counted(ledger) == {("user", 3, 7): 1, ("audit", 3, 7): 1}


def test_nothing_to_record_is_no_error(ledger: Ledger) -> None:
    assert ledger.record([]) == []
    assert ledger.totals() == []


def test_counts_may_be_of_a_version_and_a_time(ledger: Ledger) -> None:
    ledger.record([label(1), label(2, version="0" * 12)], now=1000.0)
    ledger.record([label(3), label(4, true=1)], now=2000.0)
    all_time = {(t.true_class, t.count) for t in ledger.counts("mnist-cnn", VERSION)}
    assert all_time == {(7, 2), (1, 1)}
    assert {(t.true_class, t.count) for t in ledger.counts("mnist-cnn", VERSION, 1500.0)} == {
        (7, 1),
        (1, 1),
    }
    assert {(t.true_class, t.count) for t in ledger.counts("mnist-cnn", VERSION, 2000.0)} == {
        (7, 1),
        (1, 1),
    }
    assert ledger.counts("mnist-cnn", VERSION, 2000.1) == []


def test_an_export_pages_through_every_label(ledger: Ledger) -> None:
    ledger.record([label(n, source="audit" if n % 2 else "user") for n in range(25)])
    rows = [row for chunk in ledger.export(chunk=4) for row in chunk]
    assert [row["receipt"] for row in rows] == [label(n).receipt for n in range(25)]
    assert sum(len(chunk) for chunk in ledger.export(source="audit", chunk=5)) == 12
    assert list(ledger.export(model="another")) == []


def test_a_thousand_labels_fit_in_one_transaction(ledger: Ledger) -> None:
    ledger.record([label(n) for n in range(0, 2000, 2)])
    outcomes = Counter(ledger.record([label(n) for n in range(2000)]))
    assert outcomes == {"recorded": 1000, "known": 1000}
    assert counted(ledger) == {("user", 7, 7): 2000}


def _write(url: str, numbers: range, seed: int) -> None:
    ledger = Ledger(url, timeout_s=20)
    order = list(numbers)
    for start in range(0, len(order), 20):
        group = order[start : start + 20]
        ledger.record([label(n, true=n % 10) for n in (group if seed % 2 else reversed(group))])
    ledger.close()


def test_workers_that_write_the_same_labels_count_each_once(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(url, range(600), seed)) for seed in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    ledger = Ledger(url)
    assert sum(total.count for total in ledger.totals()) == 600
    assert sum(len(chunk) for chunk in ledger.export()) == 600
    ledger.close()


_KILLED = """
import sys
from service.ledger import Ledger
from tests.service.test_ledger import label
ledger = Ledger(sys.argv[1])
for n in range(100_000):
    ledger.record([label(n, true=n % 10)])
    print(n, flush=True)
"""


def test_what_was_confirmed_before_a_kill_is_there_and_counted_once(url: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, url], stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        lines = [worker.stdout.readline() for _ in range(150)]
        worker.kill()
        lines += worker.stdout.read().splitlines()
    confirmed = {int(line) for line in lines if line.strip()}
    ledger = Ledger(url)
    rows = [row for chunk in ledger.export() for row in chunk]
    kept = {int(row["receipt"][7:]) for row in rows}
    assert confirmed <= kept
    assert len(kept - confirmed) <= 1  # committed, and killed before it could say so
    assert sum(total.count for total in ledger.totals()) == len(rows) == len(kept)
    ledger.close()


def test_a_ledger_of_another_schema_is_refused(url: str) -> None:
    ledger = Ledger(url)
    ledger.record([label(1)])
    with ledger._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE vitrine_schema SET schema = 99")
    ledger._seen = None  # as if it were opened anew
    with pytest.raises(Unavailable, match="schema is 99, this release reads 1"):
        ledger.totals()
    ledger.close()


def test_a_locked_file_is_unavailable_and_comes_back(tmp_path: Path) -> None:
    ledger = Ledger(file_url(tmp_path), timeout_s=0.05)
    ledger.record([label(1)])
    with sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match="locked"):
            ledger.record([label(2)])
        assert counted(ledger) == {("user", 7, 7): 1}  # reading goes on
        other.execute("ROLLBACK")
    other.close()
    assert ledger.record([label(2)]) == ["recorded"]
    ledger.close()


def test_a_file_that_was_deleted_is_made_anew(tmp_path: Path) -> None:
    ledger = Ledger(file_url(tmp_path / "state"))
    ledger.record([label(1)])
    for path in (tmp_path / "state").iterdir():
        path.unlink()
    assert ledger.record([label(2)]) == ["recorded"]
    assert counted(ledger) == {("user", 7, 7): 1}
    assert (tmp_path / "state" / "ledger.sqlite").exists()
    ledger.close()


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(os.urandom(10_000))
    ledger = Ledger(file_url(tmp_path))
    with pytest.raises(Unavailable, match="not a database"):
        ledger.record([label(1)])
    (tmp_path / "ledger.sqlite").unlink()
    assert ledger.record([label(1)]) == ["recorded"]
    ledger.close()


_SMALL_DISK = """
import sys
from pathlib import Path
from service.database import file_url
from service.ledger import Ledger, Unavailable
from tests.service.test_ledger import label
folder = Path(sys.argv[1])
ledger = Ledger(file_url(folder))
assert ledger.record([label(0)]) == ["recorded"]
ballast = folder / "ballast"
try:
    with ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
except OSError:
    pass
written, refused = 1, 0
for n in range(1, 3000):
    try:
        ledger.record([label(n)])
        written += 1
    except Unavailable as error:
        assert "full" in str(error) or "disk" in str(error), error
        refused += 1
        break
assert refused, "the disk never filled"
ballast.unlink()
assert ledger.record([label(5000)]) == ["recorded"]
print(written + 1, sum(total.count for total in ledger.totals()))
"""


_READ_ONLY = """
import subprocess, sys
from pathlib import Path
from service.database import file_url
from service.ledger import Ledger, Unavailable
from tests.service.test_ledger import label
folder = Path(sys.argv[1])
ledger = Ledger(file_url(folder))
assert ledger.record([label(0)]) == ["recorded"]
ledger.close()
subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
try:
    ledger.record([label(1)])
except Unavailable as error:
    assert "readonly" in str(error) or "unable to open" in str(error), error
else:
    raise AssertionError("written to a read-only disk")
subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
assert ledger.record([label(1)]) == ["recorded"]
print(2, sum(total.count for total in ledger.totals()))
"""


@pytest.mark.parametrize("program", [_SMALL_DISK, _READ_ONLY], ids=["full", "read-only"])
def test_a_disk_that_cannot_be_written_is_unavailable_and_recovers(
    program: str, tmp_path: Path
) -> None:
    # A file system of 1 MB, mounted in a name space of the child's own: no rights are needed.
    script = f'mount -t tmpfs -o size=1m none {tmp_path} && exec "$@"'
    command = ["unshare", "-Urm", "sh", "-c", script, "sh"]
    done = subprocess.run(
        [*command, sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    confirmed, kept = map(int, done.stdout.split())
    assert confirmed == kept


def test_a_stopped_server_is_unavailable_and_comes_back() -> None:
    with postgres() as cluster:
        ledger = Ledger(cluster.database())
        ledger.record([label(1)])
        cluster.stop()
        for attempt in (lambda: ledger.record([label(2)]), ledger.totals):
            with pytest.raises(Unavailable):
                attempt()
        cluster.start()
        assert ledger.record([label(1), label(2)]) == ["known", "recorded"]
        ledger.close()


def test_a_locked_table_is_unavailable_within_the_timeout(cluster: Postgres) -> None:
    url = cluster.database()
    ledger = Ledger(url, timeout_s=0.2)
    ledger.record([label(1)])
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE vitrine_labels")
        with pytest.raises(Unavailable, match=r"lock timeout|statement timeout"):
            ledger.record([label(2)])
        other.rollback()
    assert ledger.record([label(2)]) == ["recorded"]
    ledger.close()


def test_without_a_place_for_it_every_use_is_unavailable() -> None:
    ledger = Ledger("", problem="there is no state folder")
    for attempt in (lambda: ledger.record([label(1)]), ledger.totals):
        with pytest.raises(Unavailable, match="no state folder"):
            attempt()


@pytest.mark.parametrize(
    "text", ["", "nonsense", "mysql://host/db", "sqlite://", "postgresql://user:secret@host:x/db"]
)
def test_a_url_that_names_no_ledger_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(BadLedger) as refused:
        parse_url(text)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_is_understood(scheme: str) -> None:
    assert parse_url(f"{scheme}://user@host/db").drivername == "postgresql+psycopg"


async def test_labels_of_many_requests_share_commits(url: str) -> None:
    clerk = Clerk(Ledger(url))
    outcomes = await asyncio.gather(*(clerk.record([label(n), label(0)]) for n in range(1, 200)))
    assert Counter(outcome for pair in outcomes for outcome in pair) == {
        "recorded": 200,
        "known": 198,
    }
    totals = await clerk.read(clerk.ledger.totals)
    assert sum(total.count for total in totals) == 200
    await asyncio.to_thread(clerk.close)


class Stuck(Ledger):
    """A ledger whose writing waits until it is let go: a disk that hangs."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.go = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    def record(self, given: object, now: float | None = None) -> list[object]:  # type: ignore[override]
        asyncio.run_coroutine_threadsafe(self.go.wait(), self.loop).result()
        return super().record(given, now)  # type: ignore[arg-type, return-value]


async def test_a_hanging_disk_bounds_what_waits_and_nobody_waits_for_ever(tmp_path: Path) -> None:
    ledger = Stuck(file_url(tmp_path))
    clerk = Clerk(ledger, max_waiting=10, patience_s=0.2)
    first = asyncio.create_task(clerk.record([label(n) for n in range(10)]))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="queue is full"):
        await clerk.record([label(11)])
    with pytest.raises(Unavailable, match="slow"):
        await first
    ledger.go.set()
    assert clerk.failures == 2
    async with asyncio.timeout(30):  # closing waits for the writer no longer than a request does
        while clerk._waiting:
            await asyncio.sleep(0.01)
    with ThreadPoolExecutor(1) as other:
        await asyncio.get_running_loop().run_in_executor(other, clerk.close)
    # What was given up on was written all the same; repeating it is known.
    with closing(Ledger(file_url(tmp_path))) as again:
        assert set(again.record([label(n) for n in range(10)])) == {"known"}


async def test_after_the_last_label_is_written_a_closed_clerk_takes_no_more(tmp_path: Path) -> None:
    clerk = Clerk(Ledger(file_url(tmp_path)))
    waiting = [asyncio.create_task(clerk.record([label(n)])) for n in range(50)]
    await asyncio.sleep(0)
    await asyncio.to_thread(clerk.close)
    assert await asyncio.gather(*waiting) == [["recorded"]] * 50
    with pytest.raises(Unavailable, match="stopping"):
        await clerk.record([label(51)])


async def test_the_log_says_once_that_the_ledger_went_and_once_that_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocker = tmp_path / "state"
    blocker.write_text("a file where the folder should be")
    clerk = Clerk(Ledger(file_url(blocker)))
    for n in range(3):
        with pytest.raises(Unavailable):
            await clerk.record([label(n)])
    blocker.unlink()
    assert await clerk.record([label(1)]) == ["recorded"]
    assert await clerk.record([label(2)]) == ["recorded"]
    messages = [record.message for record in caplog.records if record.name == "vitrine.ledger"]
    assert len(messages) == 2
    assert "unavailable" in messages[0]
    assert "is back" in messages[1]
    await asyncio.to_thread(clerk.close)
