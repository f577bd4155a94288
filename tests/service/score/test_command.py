from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from artifacts.images import decode
from artifacts.model import load
from artifacts.store import Store
from service.score import rows
from tests import scoring
from tests.scoring import pictures, publish, score


@pytest.fixture
def state(tmp_path: Path) -> Path:
    publish(tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    pictures(tmp_path / "scans", 100)
    return tmp_path / "scans"


def test_every_image_of_a_folder_is_a_row_in_order(
    state: Path, scans: Path, tmp_path: Path
) -> None:
    done = score(state, scans, "--out", tmp_path / "rows.csv")
    assert done.returncode == 0, done.stderr
    found = list(rows.read_any(str(tmp_path / "rows.csv")))
    assert [row["path"] for row in found] == sorted(row["path"] for row in found)
    assert [row["label"] for row in found] == ["bright"] * 50 + ["dark"] * 50
    assert {(row["error"], row["model"]) for row in found} == {(None, "toy")}
    assert not (tmp_path / "rows.csv.partial").exists()


def test_the_three_formats_say_the_same(state: Path, scans: Path, tmp_path: Path) -> None:
    (scans / "broken.png").write_bytes(b"no image")
    for suffix in ("csv", "jsonl", "parquet"):
        done = score(state, scans, "--out", tmp_path / f"rows.{suffix}", "--probabilities")
        assert done.returncode == 1, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert pq.read_table(tmp_path / "rows.parquet").to_pylist() == lines
    with (tmp_path / "rows.csv").open(newline="") as file:
        for record, line in zip(csv.DictReader(file), lines, strict=True):
            assert list(record) == list(line)
            assert float(record["confidence"] or -1) == (line["confidence"] or -1)
            assert json.loads(record["probabilities"] or "null") == line["probabilities"]


def test_probabilities_are_the_models_own_to_the_bit(
    state: Path, scans: Path, tmp_path: Path
) -> None:
    score(state, scans, "--out", tmp_path / "rows.jsonl", "--probabilities")
    store = Store(state)
    model = load(store.folder(*store.resolve("light")), execution_provider="cpu")
    for row in rows.read_any(str(tmp_path / "rows.jsonl")):
        alone = model.predict(decode((scans / row["path"]).read_bytes())[None])
        assert row["probabilities"] == alone.probabilities[0].tolist()


def test_a_list_on_stdin_is_answered_on_stdout(state: Path, scans: Path) -> None:
    paths = [str(scans / "dark" / "00001.png"), str(scans / "bright" / "00000.png")]
    done = score(state, "-", stdin="\n".join(paths).encode())
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "path,label,index,confidence,decision,error,model,version"
    assert [line.split(",")[:2] for line in lines[1:]] == [[paths[0], "dark"], [paths[1], "bright"]]


def test_a_url_gives_the_rows_of_the_folder_it_names(
    state: Path, scans: Path, tmp_path: Path
) -> None:
    (scans / "dark" / "broken.png").touch()
    here, there = tmp_path / "here.csv", tmp_path / "there.csv"
    assert score(state, scans, "--out", here).returncode == 1
    assert score(state, f"file://{scans}", "--out", there).returncode == 1
    found = {path.read_text() for path in (here, there)}
    assert len(found) == 1


def test_one_in_twenty_broken_fails_alone_with_its_reason(state: Path, tmp_path: Path) -> None:
    good = pictures(tmp_path / "scans", 140)
    broken = tmp_path / "scans" / "broken"
    broken.mkdir()
    whole = good[0].read_bytes()
    (broken / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (broken / "empty.png").touch()
    (broken / "text.png").write_text("no image at all")
    (broken / "folder.png").mkdir()
    (broken / "link.png").symlink_to("nowhere.png")
    (broken / "unreadable.png").symlink_to("/proc/self/mem")  # reading fails, even for root
    (Path(os.fsdecode(os.fsencode(broken) + b"/caf\xe9.png"))).write_bytes(whole)
    done = score(state, tmp_path / "scans", "--out", tmp_path / "rows.csv")
    assert done.returncode == 1, done.stderr
    assert b"141 scored, 6 failed" in done.stderr
    found = {row["path"]: row for row in rows.read_any(str(tmp_path / "rows.csv"))}
    assert {path: row["error"] for path, row in found.items() if row["error"]} == {
        "broken/truncated.png": "the PNG is truncated or corrupt",
        "broken/empty.png": "the image is empty: no bytes were sent",
        "broken/text.png": "not an image: expected PNG, JPEG, WebP, BMP, GIF or TIFF",
        "broken/folder.png": "is a directory",
        "broken/link.png": "broken link",
        "broken/unreadable.png": "input/output error",
    }
    assert found["broken/caf\\xe9.png"]["label"] == found["bright/00000.png"]["label"]


def test_an_output_that_exists_is_not_overwritten_unasked(
    state: Path, scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rows.csv"
    out.write_text("precious")
    done = score(state, scans, "--out", out)
    assert (done.returncode, out.read_text()) == (2, "precious")
    assert b"--overwrite" in done.stderr
    assert score(state, scans, "--out", out, "--overwrite").returncode == 0
    assert out.read_text().startswith("path,label")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--out", "rows.txt"], "expected a name that ends in .csv, .jsonl, .parquet"),
        (["--out", "nowhere/rows.csv"], "no such folder"),
        (["--report", "page.html"], "--report need an output file"),
        (["--engine", "ray", "--out", "rows.csv"], "--engine ray writes a data set"),
        (["--address", "auto", "--out", "rows.csv"], "--address goes with --engine ray"),
        (["--version", "000000000000", "--out", "rows.csv"], "no version '000000000000'"),
        (["--url", "ftp://x", "--out", "rows.csv"], "expected http://host:port"),
    ],
)
def test_misuse_is_said_before_anything_is_done(
    state: Path, scans: Path, options: list[str], complaint: str
) -> None:
    done = score(state, scans, *options)
    assert done.returncode == 2
    assert complaint in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_model_and_a_missing_folder_are_misuse(state: Path, scans: Path) -> None:
    done = score(state, scans, model="nothing")
    assert done.returncode == 2
    assert b"no live model or task 'nothing'" in done.stderr
    assert score(state, scans / "nowhere").returncode == 2


def test_known_classes_are_counted_and_shown(state: Path, scans: Path, tmp_path: Path) -> None:
    shutil.copy(scans / "dark" / "00001.png", scans / "bright" / "wrong.png")
    shutil.copy(scans / "dark" / "00001.png", scans / "loose.png")
    page = tmp_path / "page.html"
    done = score(state, scans, "--out", tmp_path / "rows.jsonl", "--report", page)
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode()
    assert "101 images with a known class, 1 without" in said
    assert "accuracy 99.01% (95 %: 94.60% to 99.83%)" in said
    assert "bright taken for dark  bright/wrong.png" in said
    html = page.read_text()
    assert html.count("data:image/png;base64,") == 1
    assert not re.search(r"(src|href)=\"?(http|//)", html)


def test_classes_can_come_from_a_file(state: Path, scans: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "label,path\nEscuro,dark/00001.png\n0,bright/00000.png\ndark,bright/00002.png\n"
    )
    done = score(state, scans, "--out", tmp_path / "rows.csv", "--labels", labels)
    assert b"3 images with a known class, 97 without" in done.stdout
    assert b"accuracy 66.67%" in done.stdout


def test_importing_the_command_brings_no_model_runtime() -> None:
    heavy = "'torch', 'bentoml', 'onnxruntime', 'pyarrow', 'ray', 'PIL'"
    code = "import sys, service.score.command; print([m for m in (HEAVY) if m in sys.modules])"
    code = code.replace("HEAVY", heavy)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=scoring.ROOT)
    assert done.stdout == b"[]\n", done.stderr
