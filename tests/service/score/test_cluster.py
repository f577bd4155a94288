from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from service.score import rows
from service.score.cluster import packed, unpacked
from service.score.shards import Shard
from tests import scoring
from tests.scoring import pictures, publish, score

RAY = ("--engine", "ray", "--workers", "2", "--labels", "folder", "--probabilities")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    publish(tmp_path / "state")
    return tmp_path / "state"


def parts(folder: Path) -> list[str]:
    """The names of the finished parts."""
    return sorted(path.name for path in folder.glob("part-*"))


def test_ray_gives_the_same_rows_whoever_dies(state: Path, tmp_path: Path) -> None:
    scans, here, there = tmp_path / "scans", tmp_path / "rows.parquet", tmp_path / "rows"
    pictures(scans, 3000)
    (scans / "broken.png").touch()
    Path(os.fsdecode(bytes(scans) + b"/caf\xe9.png")).touch()
    assert score(state, scans, "--out", here, *RAY[4:]).returncode == 1
    # One of its two actors is killed in the middle.
    process = subprocess.Popen(
        scoring.command(state, scans, "--out", there, *RAY),
        cwd=scoring.ROOT,
        env=scoring.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while not parts(there):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    at_work = [
        each
        for each in psutil.Process(process.pid).children(recursive=True)
        if "MapWorker" in " ".join(each.cmdline())
    ]
    done_by_then = len(parts(there))
    at_work[0].kill()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert done_by_then < len(parts(there))
    assert list(rows.read_any(str(there))) == list(rows.read_any(str(here)))

    # With some parts gone it is an interrupted run, and goes on with what is missing.
    (there / "_vitrine" / "finished.json").unlink()
    for name in parts(there)[5:]:
        (there / name).unlink()
    kept = (there / parts(there)[0]).stat().st_mtime_ns
    assert score(state, scans, "--out", there, *RAY).returncode == 1
    assert list(rows.read_any(str(there))) == list(rows.read_any(str(here)))
    assert (there / parts(there)[0]).stat().st_mtime_ns == kept


def test_a_data_set_is_never_overwritten_unasked(state: Path, tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "rows"
    pictures(scans, 10)
    out.mkdir()
    (out / "precious.txt").touch()
    done = score(state, scans, "--out", out, *RAY)
    assert done.returncode == 2
    assert b"holds other files" in done.stderr
    assert [path.name for path in out.iterdir()] == ["precious.txt"]
    shutil.rmtree(out)
    (out / "_vitrine").mkdir(parents=True)
    (out / "_vitrine" / "finished.json").write_text("{}")
    done = score(state, scans, "--out", out, *RAY)
    assert done.returncode == 2
    assert b"--overwrite" in done.stderr


def test_an_interrupted_data_set_with_other_options_does_not_go_on(
    state: Path, tmp_path: Path
) -> None:
    scans, out = tmp_path / "scans", tmp_path / "rows"
    pictures(scans, 10)
    (out / "_vitrine").mkdir(parents=True)
    (out / "_vitrine" / "job.json").write_text('{"version": "ba9876543210"}')
    done = score(state, scans, "--out", out, *RAY)
    assert done.returncode == 2
    assert b'version was "ba9876543210"' in done.stderr


def test_a_plan_keeps_every_name() -> None:
    shard = Shard(3, ["a.png", "new\nline.png", os.fsdecode(b"\xff.png")], ["dark", "", "bright"])
    assert unpacked(3, packed(shard), has_truths=True) == shard
    plain = shard._replace(truths=None)
    assert unpacked(3, packed(plain), has_truths=False) == plain
