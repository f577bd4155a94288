"""Folders to score, and the command that scores them, for the tests of scoring."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from artifacts.store import Store
from tests import toy

ROOT = Path(__file__).parents[1]
CLASSES = ("bright", "dark")


def publish(state: Path, *, constant: int = 0) -> str:
    """Make a toy the live model of the task `light`; returns its version."""
    store = Store(state)
    published = toy.publish(store, constant=constant)
    store.activate(published.name, published.version)
    store.point(published.task, published.name)
    return published.version


def pictures(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """`count` different PNG files, half of them bright, in folders named after their class."""
    random = np.random.default_rng(seed)
    paths = []
    for number in range(count):
        label = CLASSES[number % 2]
        low, high = (150, 256) if label == "bright" else (0, 110)
        place = folder / label / f"{number:05}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(low, high, (toy.SIDE, toy.SIDE), dtype=np.uint8)
        Image.fromarray(pixels).save(place)
        paths.append(place)
    return paths


def command(
    state: Path, source: Path | str, *options: str | Path, model: str = "light"
) -> list[str]:
    """`vitrine score` of a source by the toy, its images taken as they are."""
    score = ["-m", "service.cli", "score", str(source), "--model", model, "--preprocess", "raw"]
    # The state folder is the one thing that comes by the environment.
    environment = ["env", f"VITRINE_STATE={state}"]
    return [*environment, sys.executable, *score, *map(str, options)]


def score(
    state: Path, source: Path | str, *options: str | Path, stdin: bytes = b"", model: str = "light"
) -> subprocess.CompletedProcess[bytes]:
    """Run it to its end."""
    return subprocess.run(
        command(state, source, *options, model=model),
        input=stdin,
        capture_output=True,
        cwd=ROOT,
        env=environment(),
        timeout=120,
    )


def environment() -> dict[str, str]:
    """The environment without any setting of the service."""
    return {name: value for name, value in os.environ.items() if "VITRINE" not in name}
