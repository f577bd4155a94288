"""A data set's files from their publisher, resumably, with a progress bar."""

from __future__ import annotations

import sys
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from training.datasets import DataFile, Dataset

CHUNK = 1 << 18  # bytes between two updates of the bar
TIMEOUT_S = 30


class DownloadFailed(Exception):
    """No publisher's address could be read."""


def download(dataset: Dataset, files: tuple[DataFile, ...], folder: Path) -> None:
    """Fetch `files` into `folder`, trying the publishers in turn.

    What arrived of an interrupted file stays beside it as `.part` and is continued the next time.
    Contents are not checked here: `data.read` does that, whatever way a file came.
    Raises DownloadFailed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for url in dataset.urls:
        try:
            if url.endswith("/"):
                for file in files:
                    fetch(f"{url}{file.name}.gz", folder / f"{file.name}.gz")
            else:
                archive = fetch(url, folder / url.rsplit("/", 1)[1])
                unpack(archive, files, folder)
        except (OSError, tarfile.TarError) as error:
            failures.append(f"{url}: {error}")
        else:
            return
    raise DownloadFailed("; ".join(failures))


def fetch(url: str, target: Path) -> Path:
    """The file at `url`, as `target`; continues `target`.part when the server allows ranges."""
    if target.exists():
        return target
    part = target.with_name(target.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310  (our own table of addresses)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != 416:  # asked for what lies past the end: the part is whole already
            raise
        part.replace(target)
        return target
    with response:
        if response.status != 206:  # the server starts over, so do we
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            part.open("ab" if have else "wb") as out,
            tqdm(
                total=total,
                initial=have,
                unit="B",
                unit_scale=True,
                desc=target.name,
                file=sys.stderr,
            ) as bar,
        ):
            while chunk := response.read(CHUNK):
                out.write(chunk)
                bar.update(len(chunk))
    if total is not None and part.stat().st_size != total:
        raise OSError(f"the connection ended after {part.stat().st_size} of {total} bytes")
    part.replace(target)
    return target


def unpack(archive: Path, files: tuple[DataFile, ...], folder: Path) -> None:
    """Write the wanted members of a .tar.gz into `folder`, by their base names alone."""
    wanted = {file.name for file in files}
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.rsplit("/", 1)[-1]
            stream = tar.extractfile(member) if name in wanted else None
            if stream is not None:
                (folder / name).write_bytes(stream.read())
                wanted.discard(name)
    if wanted:
        raise OSError(f"{archive.name} holds no {', '.join(sorted(wanted))}")
