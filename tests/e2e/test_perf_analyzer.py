"""NVIDIA's perf_analyzer, unchanged, against a real server: it asks, and reads our statistics."""

from __future__ import annotations

import csv
import os
import subprocess
from pathlib import Path

import pytest

from benchmarks import setup
from benchmarks.servers import CACHE
from tests.serving import Server


@pytest.fixture(scope="module")
def analyzer() -> tuple[Path, dict[str, str]]:
    """The program in an environment of its own, and what it needs to find its libraries."""
    setup.make("perf_analyzer")
    folder = CACHE / "perf_analyzer"
    (library,) = folder.glob("lib/python*/site-packages/nvidia/cuda_runtime/lib")
    return folder / "bin" / "perf_analyzer", {**os.environ, "LD_LIBRARY_PATH": str(library)}


@pytest.mark.parametrize(
    "options",
    [
        ["--concurrency-range", "4"],
        ["--concurrency-range", "2", "-b", "8"],
        ["--request-rate-range", "50"],
        ["--input-tensor-format", "json", "--output-tensor-format", "json"],
    ],
    ids=["binary", "batches", "rate", "json"],
)
def test_perf_analyzer_agrees_with_the_server(
    shared: Server, analyzer: tuple[Path, dict[str, str]], tmp_path: Path, options: list[str]
) -> None:
    program, environment = analyzer
    table = tmp_path / "measured.csv"
    asked = ["-m", "light", "-u", shared.url.removeprefix("http://"), "-f", str(table), *options]
    # Any spread will do: what is looked at here are counts.
    bounds = ["-p", "700", "--max-trials", "3", "-s", "999", "--verbose-csv"]
    done = subprocess.run(
        [program, *asked, *bounds],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert float(row["Inferences/Second"]) > 0
    assert int(row["Server Compute Infer"]) > 0, done.stdout
    assert "Successful request count" in done.stdout
