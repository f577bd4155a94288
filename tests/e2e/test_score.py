"""`vitrine score` through a running service, and beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.score import rows
from tests.scoring import pictures, score
from tests.serving import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    paths = pictures(tmp_path / "scans", 300)
    (paths[0].parent / "broken.png").write_bytes(b"no image")
    (paths[0].parent / "empty.png").touch()
    (paths[0].parent / "link.png").symlink_to("nowhere")
    return tmp_path / "scans"


def test_through_the_service_the_rows_are_the_same_to_the_bit(
    server: Server, scans: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    assert score(server.state, scans, "--out", here, "--probabilities").returncode == 1
    done = score(server.state, scans, "--out", there, "--probabilities", "--url", server.url)
    assert done.returncode == 1, done.stderr
    assert there.read_bytes() == here.read_bytes()
    assert b"300 scored, 3 failed" in done.stderr


def test_the_service_asked_image_by_image_says_the_same(
    server: Server, scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rows.jsonl"
    score(server.state, scans, "--out", out)
    for row in list(rows.read_any(str(out)))[:40]:
        if row["error"] == "broken link":
            continue
        answer = httpx.post(
            f"{server.url}/v1/classify/light?preprocess=raw",
            content=(scans / row["path"]).read_bytes(),
            headers={"content-type": "image/png"},
        )
        if row["error"]:
            assert (answer.status_code, answer.json()["detail"]) == (422, row["error"])
            continue
        found = answer.json()["predictions"][0]
        names = ("label", "index", "confidence", "decision")
        assert {name: found[name] for name in names} == {name: row[name] for name in names}
