"""The README keeps its word: its commands are run, and what it points to is there."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving import free_port

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent
START_S = 60.0


def commands(start: str) -> list[str]:
    """The commands of the README's shell blocks that begin with a word, comments taken off."""
    lines = "".join(BLOCKS).replace("\\\n", " ").splitlines()
    return [
        shlex.join(shlex.split(line, comments=True)) for line in lines if line.startswith(start)
    ]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What `make serve` starts, on a port and with a state folder of its own, ready."""
    assert "make serve" in commands("make")
    environ = {name: value for name, value in os.environ.items() if "VITRINE" not in name}
    environ["VITRINE_STATE"] = str(tmp_path_factory.mktemp("state"))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # This environment is taken for the one that `make serve` would create and install.
    made = [
        f"VENV={BIN.parent}",
        f"PORT={url.rpartition(':')[2]}",
        f"--old-file={BIN.parent}/.serve",
    ]
    log = tmp_path_factory.mktemp("log") / "serve.log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            ["make", "serve", *made],
            cwd=ROOT,
            env=environ,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        transport = httpx.HTTPTransport(retries=0)
        with httpx.Client(transport=transport) as client:
            wait_until_ready(client, url, server, log)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def wait_until_ready(
    client: httpx.Client, url: str, server: subprocess.Popen[bytes], log: Path
) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        try:
            if client.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def test_the_first_screen_takes_a_stranger_to_a_prediction() -> None:
    first_screen = "\n".join(README.splitlines()[:40])
    for wanted in ("make serve", "make test", "curl"):
        assert wanted in first_screen


def test_every_curl_of_the_readme_gives_the_label_in_the_name_of_its_file(url: str) -> None:
    found = commands("curl")
    assert found
    for command in found:
        words = [word.replace("localhost:3000", url) for word in shlex.split(command)]
        answer = subprocess.run(
            [*words, "--silent", "--show-error", "--fail-with-body", "--max-time", "30"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        sample = next(word for word in words if word.startswith("@"))
        prediction = json.loads(answer.stdout)["predictions"][0]
        assert str(prediction["index"]) == re.findall(r"_(\d+)\.png", sample)[0]


def test_make_test_runs_pytest_with_coverage() -> None:
    assert "make test" in commands("make")
    said = subprocess.run(
        ["make", "--dry-run", "test"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "pytest --cov" in said.stdout


def test_every_make_target_named_anywhere_in_the_documents_is_there() -> None:
    pages = [README, *(page.read_text() for page in (ROOT / "docs").glob("*.md"))]
    named = {target for page in pages for target in re.findall(r"`make ([a-z-]+)", page)}
    there = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named
    assert named <= there


def test_make_alone_explains_every_target() -> None:
    said = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    explained = {line.split()[0] for line in said.splitlines()}
    assert explained == set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    )


INLINE = sorted(set(re.findall(r"`((?:vitrine|vitrine-train) [^`]+)`", README)))


@pytest.mark.parametrize("command", INLINE)
def test_every_command_of_the_readme_is_understood(command: str) -> None:
    """Asked for help at the depth it is named at; its options must be among those explained."""
    program, *words = command.split()
    verbs = []
    for word in words:
        if not re.fullmatch(r"[a-z]+", word):
            break
        verbs.append(word)
    said = subprocess.run(
        [BIN / program, *verbs, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    for option in (word for word in words if word.startswith("--")):
        assert option in said.stdout


def test_every_console_command_is_installed() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert {name for name in scripts if (BIN / name).exists()} == set(scripts)


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_what_a_page_links_to_is_in_the_repository(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
        path = ((ROOT / page).parent / target).resolve()
        assert path.exists(), f"{page} links to {target}"
