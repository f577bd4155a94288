"""What comes back from feedback: a table of labels, and the images captured for them."""

from __future__ import annotations

import csv
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from artifacts.store import Store
from service import capture
from service.capture import Capture
from service.cli import main
from service.database import file_url
from service.ledger import Label, Ledger, Source
from service.receipts import Signer, load_keys
from tests import toy


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder with the toy, ten labels, and images of the even ones."""
    folder = tmp_path / "state"
    version = toy.publish(Store(folder)).version
    ledger, signer = Ledger(file_url(folder)), Signer(load_keys("", folder))
    keeping = Capture(folder / capture.FOLDER, 1.0)
    now = time.time()
    for number in range(10):
        receipt = signer.sign(version, 0, 0.9, now)
        if number % 2 == 0:
            keeping.offer(receipt, toy.white()[0] - number)
        source: Source = "audit" if number < 3 else "user"
        ledger.record([Label(receipt, source, "toy", version, number % 3 // 2, 0, 0.9, int(now))])
    keeping.close()
    ledger.close()
    monkeypatch.setenv("VITRINE_STATE", str(folder))
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("state")
def test_labels_are_exported_as_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "labels.csv"
    assert main(["feedback", "export", "--out", str(out)]) == 0
    rows = read(out)
    assert len({row["receipt"] for row in rows}) == 10
    assert sorted(row["label"] for row in rows) == ["bright"] * 7 + ["dark"] * 3
    assert {row["predicted"] for row in rows} == {"bright"}
    assert sorted(row["correct"] for row in rows) == ["False"] * 3 + ["True"] * 7
    assert all(datetime.fromisoformat(row["labelled_at"]).tzinfo for row in rows)
    assert capsys.readouterr().out == f"10 labels in {out}\n"


@pytest.mark.usefixtures("state")
def test_labels_are_exported_as_parquet_and_by_source(tmp_path: Path) -> None:
    out = tmp_path / "labels.parquet"
    assert main(["feedback", "export", "--out", str(out), "--source", "audit"]) == 0
    rows = parquet.read_table(out).to_pylist()
    assert [row["source"] for row in rows] == ["audit"] * 3
    assert sum(row["correct"] for row in rows) == 2


@pytest.mark.usefixtures("state")
def test_captured_images_come_back_by_their_true_class(tmp_path: Path) -> None:
    out, images = tmp_path / "labels.csv", tmp_path / "images"
    assert main(["feedback", "export", "--out", str(out), "--images", str(images)]) == 0
    listed = read(images / "labels.csv")
    labels = {row["receipt"]: row["label"] for row in read(out)}
    assert len(listed) == 5
    for row in listed:
        path = images / row["path"]
        assert path.parent.name == row["label"] == labels[path.stem]
        pixels = np.asarray(Image.open(path))
        assert pixels.shape == (28, 28)
        assert len(np.unique(pixels)) == 1


@pytest.mark.usefixtures("state")
def test_a_name_of_another_kind_is_misuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["feedback", "export", "--out", str(tmp_path / "labels.xls")]) == 2
    assert "neither .csv nor .parquet" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_ledger_that_cannot_be_read_is_an_error_and_leaves_no_file(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (state / "ledger.sqlite").write_bytes(os.urandom(5000))
    assert main(["feedback", "export", "--out", str(tmp_path / "labels.csv")]) == 1
    assert "not a database" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_share_is_kept_and_bit_identical(tmp_path: Path) -> None:
    keeping = Capture(tmp_path, 0.25, seed=7)
    images = np.random.default_rng(0).integers(0, 256, (400, 8, 8, 3), np.uint8)
    for number, image in enumerate(images):
        keeping.offer(f"receipt{number}", image)
    keeping.close()
    files = list(tmp_path.rglob("*.png"))
    assert 70 <= len(files) <= 130
    for path in files:
        assert np.array_equal(np.asarray(Image.open(path)), images[int(path.stem[7:])])
    assert capture.find(tmp_path, files[0].stem, time.time()) == files[0]
    assert capture.find(tmp_path, "receipt", time.time()) is None


def test_what_cannot_be_written_is_let_go_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    keeping = Capture(tmp_path / "file" / "captured", 1.0)
    for number in range(5):
        keeping.offer(f"receipt{number}", toy.white()[0])
    keeping.close()
    assert len([r for r in caplog.records if r.name == "vitrine.capture"]) == 1


def test_the_oldest_images_go_first_when_there_are_too_many_or_they_are_too_old(
    tmp_path: Path,
) -> None:
    for days in (0, 1, 2, 40):
        folder = tmp_path / (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%d")
        folder.mkdir()
        for number in range(10):
            (folder / f"{number}.png").write_bytes(b"x")
    capture.sweep(tmp_path, max_bytes=1000 * capture.BLOCK, max_days=30)
    assert sorted(len(list(day.iterdir())) for day in tmp_path.iterdir()) == [10, 10, 10]
    capture.sweep(tmp_path, max_bytes=20 * capture.BLOCK, max_days=30)
    left = {day.name: len(list(day.iterdir())) for day in sorted(tmp_path.iterdir())}
    assert list(left.values()) == [8, 10]
    capture.sweep(tmp_path / "not there", 0, 0)
