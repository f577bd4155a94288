from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from service.score.shards import size_of
from tests import scoring
from tests.scoring import pictures, publish, score

KILLS = 10


@pytest.fixture
def state(tmp_path: Path) -> Path:
    publish(tmp_path / "state")
    return tmp_path / "state"


def start(state: Path, source: Path, *options: str | Path) -> subprocess.Popen[bytes]:
    """The command in a process group of its own."""
    return subprocess.Popen(
        scoring.command(state, source, *options),
        cwd=scoring.ROOT,
        env=scoring.environment(),
        stderr=subprocess.PIPE,
        process_group=0,
    )


def shards(partial: Path) -> list[str]:
    """The names of the finished shards."""
    try:
        return sorted(path.name for path in partial.iterdir() if path.name[0].isdigit())
    except FileNotFoundError:
        return []


def interrupt(state: Path, source: Path, out: Path, *options: str | Path) -> None:
    """Begin, and be killed with some shards done and others not."""
    process = start(state, source, "--out", out, *options)
    partial = out.with_name(out.name + ".partial")
    while not shards(partial):
        assert process.poll() is None
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not out.exists()


def test_killed_at_ten_random_moments_the_output_is_the_same(state: Path, tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "rows.csv"
    pictures(scans, 3000)
    (scans / "broken.png").touch()
    began = time.monotonic()
    score(state, scans, "--out", out)
    whole_s = time.monotonic() - began
    wanted = out.read_bytes()
    moments, killed = random.Random(7), 0
    while killed < KILLS:
        out.unlink(missing_ok=True)
        code = None
        while code is None and killed < KILLS:
            process = start(state, scans, "--out", out)
            try:
                process.communicate(timeout=moments.uniform(0, whole_s))
                code = process.returncode
            except subprocess.TimeoutExpired:
                # The parent alone is killed every other time: its workers must end by themselves.
                kill = os.kill if killed % 2 else os.killpg
                kill(process.pid, signal.SIGKILL)
                process.communicate()
                killed += 1
        if code is None:
            code = score(state, scans, "--out", out).returncode
        assert code == 1
        assert out.read_bytes() == wanted
        assert not out.with_name("rows.csv.partial").exists()


def test_what_was_done_is_not_done_again(state: Path, tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "rows.csv"
    pictures(scans, 2000)
    interrupt(state, scans, out)
    done = shards(tmp_path / "rows.csv.partial")
    first = done[0]
    number = int(first.split("-")[0])
    paths = sorted(scans.rglob("*.png"))[32 * number : 32 * (number + 1)]
    for path in paths:  # were it scored again, it would fail
        path.write_bytes(b"")
    assert score(state, scans, "--out", out).returncode == 0


def test_files_that_came_meanwhile_are_scored_too(state: Path, tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "rows.csv"
    pictures(scans, 2000)
    interrupt(state, scans, out)
    pictures(scans / "a-new-one", 1)
    assert score(state, scans, "--out", out).returncode == 0
    resumed = out.read_bytes()
    assert score(state, scans, "--out", out, "--overwrite").returncode == 0
    assert out.read_bytes() == resumed
    assert resumed.count(b"\n") == 2002


def test_another_version_or_other_options_do_not_go_on(state: Path, tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "rows.csv"
    pictures(scans, 2000)
    interrupt(state, scans, out)
    done = score(state, scans, "--out", out, "--labels", "folder")
    assert done.returncode == 2
    assert b'labels was "", now it is "folder"' in done.stderr
    before = json.loads((tmp_path / "rows.csv.partial" / "job.json").read_text())["version"]
    publish(state, constant=1)
    done = score(state, scans, "--out", out)
    assert done.returncode == 2
    assert f'version was "{before}"'.encode() in done.stderr
    assert score(state, scans, "--out", out, "--version", before).returncode == 0
    assert before in out.read_text()


def test_a_run_can_be_begun_anew(state: Path, tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "rows.csv"
    pictures(scans, 2000)
    interrupt(state, scans, out)
    new = publish(state, constant=1)
    assert score(state, scans, "--out", out, "--restart").returncode == 0
    assert out.read_text().count(new) == 2000


def test_killed_between_the_output_and_the_tidying_it_counts_as_done(
    state: Path, tmp_path: Path
) -> None:
    scans, out = tmp_path / "scans", tmp_path / "rows.csv"
    pictures(scans, 2000)
    interrupt(state, scans, out)
    partial = tmp_path / "rows.csv.partial"
    job = (partial / "job.json").read_bytes()
    assert score(state, scans, "--out", out).returncode == 0
    finished = out.read_bytes()
    # What stands there after the rename: the job, and the counts with the output's inode.
    partial.mkdir()
    (partial / "job.json").write_bytes(job)
    record = {"inode": out.stat().st_ino, "scored": 2000, "failed": 0}
    (partial / "finished.json").write_text(json.dumps(record))
    done = score(state, scans, "--out", out)
    assert done.returncode == 0
    assert b"2,000 scored, 0 failed" in done.stderr
    assert out.read_bytes() == finished
    assert not partial.exists()


def test_two_runs_do_not_write_the_same_output(state: Path, tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "rows.csv"
    pictures(scans, 10)
    partial = tmp_path / "rows.csv.partial"
    partial.mkdir()
    with (partial / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = score(state, scans, "--out", out)
    assert done.returncode == 2
    assert b"another run is writing" in done.stderr


def test_a_worker_that_dies_is_replaced(state: Path, tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "rows.csv"
    pictures(scans, 3000)
    score(state, scans, "--out", out)
    wanted = out.read_bytes()
    process = start(state, scans, "--out", out, "--overwrite")
    while not shards(tmp_path / "rows.csv.partial"):
        time.sleep(0.002)
    children = psutil.Process(process.pid).children()
    next(child for child in children if "spawn_main" in str(child.cmdline())).kill()
    assert process.wait(60) == 0
    process.communicate()
    assert out.read_bytes() == wanted


def test_a_damaged_shard_is_found_and_scored_again(state: Path, tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "rows.csv"
    pictures(scans, 2000)
    interrupt(state, scans, out)
    name = shards(tmp_path / "rows.csv.partial")[0]
    (tmp_path / "rows.csv.partial" / name).write_bytes(b"\0" * 100)
    assert b"was damaged" in score(state, scans, "--out", out).stderr
    assert score(state, scans, "--out", out).returncode == 0
    assert out.read_bytes().count(b"\n") == 2001


def test_a_killed_run_leaves_no_worker_behind(state: Path, tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "rows.csv"
    pictures(scans, 3000)
    process = start(state, scans, "--out", out)
    while not shards(tmp_path / "rows.csv.partial"):
        time.sleep(0.002)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert children
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_small_folders_are_shared_out_and_large_ones_make_few_files() -> None:
    assert size_of(0) * 4 >= 100 > size_of(0) * 3
    shards_of_a_hundred_million, left = 0, 100_000_000
    while left > 0:
        left -= size_of(shards_of_a_hundred_million)
        shards_of_a_hundred_million += 1
    assert shards_of_a_hundred_million < 50_000
