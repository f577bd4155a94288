"""Reports: a page that needs no other file, and a comparison that says what its numbers say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from artifacts.store import Store
from tests.training.small import little_mnist
from training import datasets
from training.__main__ import main
from training.compare import compare, verdict, write
from training.recipes import RECIPES

NAME = "mnist-mlp256x2"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one short run in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITRINE_STATE", str(tmp_path / "state"))
    monkeypatch.setitem(datasets.DATASETS, "mnist", little_mnist(tmp_path / "data/mnist"))
    monkeypatch.setitem(RECIPES, NAME, replace(RECIPES[NAME], min_accuracy=0, patience=0))
    assert main(["run", NAME, "--epochs", "2", "--out", "run"]) == 0
    return tmp_path


def test_a_report_is_one_page_that_needs_nothing_else(folder: Path) -> None:
    assert main(["report", "run"]) == 0
    page = (folder / "run/report.html").read_text(encoding="utf-8")
    for heading in ("Learning curves", "Confusion", "Reliability", "most confident mistakes"):
        assert heading in page
    assert page.count("data:image/png;base64,") == len(list((folder / "run").glob("*.png"))) >= 8
    assert "http://" not in page
    assert "https://" not in page


def test_a_run_that_is_not_there_has_no_report(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(folder / "nothing")]) == 1
    assert "no finished run" in capsys.readouterr().err


def test_a_comparison_has_a_row_for_each_live_model_and_a_verdict(folder: Path) -> None:
    rows = compare(Store(folder / "state", release=folder / "none"))
    assert [row.manifest.name for row in rows] == [NAME]
    write(rows, folder / "page.md")
    text = (folder / "page.md").read_text(encoding="utf-8")
    assert f"| `{NAME}` |" in text
    assert "is the most accurate" in text
    assert (folder / "page-digits.png").is_file()


def test_the_verdict_names_a_faster_model_that_is_as_good(folder: Path) -> None:
    (row,) = compare(Store(folder / "state", release=folder / "none"))
    faster = replace(row, one_ms=row.one_ms / 2, manifest=replace(row.manifest, name="faster"))
    assert "`faster` answers 2.0 times as fast" in verdict([row, faster])
