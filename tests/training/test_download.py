"""Downloads come from a real HTTP server, and go on where they stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.training.small import NOWHERE, little_mnist
from training.data import BadData, load
from training.download import DownloadFailed, download, fetch


@dataclass
class Publisher:
    """A server of one folder's files that understands ranges and remembers what was asked."""

    folder: Path
    url: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    here = Publisher(tmp_path / "publisher")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            here.asked.append((self.path, wanted))
            path = here.folder / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            content = path.read_bytes()
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:])

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        here.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield here
        server.shutdown()
        thread.join()


def test_missing_files_are_downloaded_and_verified(publisher: Publisher, tmp_path: Path) -> None:
    dataset = replace(little_mnist(publisher.folder), urls=(publisher.url,))
    assert len(load(dataset, tmp_path / "data").train) == 140
    assert (tmp_path / "data/mnist/train-images-idx3-ubyte.gz").is_file()


def test_a_downloaded_file_that_is_not_the_right_one_is_refused(
    publisher: Publisher, tmp_path: Path
) -> None:
    dataset = replace(little_mnist(publisher.folder), urls=(publisher.url,))
    little_mnist(publisher.folder, count=100)
    with pytest.raises(BadData, match="publisher's"):
        load(dataset, tmp_path / "data")


def test_an_interrupted_download_goes_on_where_it_stopped(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.folder.mkdir()
    content = bytes(range(256)) * 100
    (publisher.folder / "file").write_bytes(content)
    (tmp_path / "file.part").write_bytes(content[:10_000])
    assert fetch(publisher.url + "file", tmp_path / "file").read_bytes() == content
    assert publisher.asked == [("/file", "bytes=10000-")]
    assert not (tmp_path / "file.part").exists()


def test_a_part_that_is_whole_already_is_kept(publisher: Publisher, tmp_path: Path) -> None:
    publisher.folder.mkdir()
    (publisher.folder / "file").write_bytes(b"whole")
    (tmp_path / "file.part").write_bytes(b"whole")
    assert fetch(publisher.url + "file", tmp_path / "file").read_bytes() == b"whole"


def test_the_next_publisher_is_tried_when_one_fails(publisher: Publisher, tmp_path: Path) -> None:
    dataset = replace(little_mnist(publisher.folder), urls=(*NOWHERE, publisher.url))
    download(dataset, dataset.test, tmp_path / "data")
    assert len(list((tmp_path / "data").iterdir())) == 2


def test_a_failure_names_every_address_that_was_tried(tmp_path: Path) -> None:
    dataset = replace(little_mnist(tmp_path / "x"), urls=("http://127.0.0.1:9/", "http://[::1]:9/"))
    with pytest.raises(DownloadFailed, match=r"127\.0\.0\.1.*\[::1\]"):
        download(dataset, dataset.test, tmp_path / "data")
