"""A story that runs: real digits, then the same digits inverted and blurred, as Prometheus saw it.

Starts the service and a Prometheus with the project's rules, in which an hour passes in a minute.
Test images are sent with their true labels as an audit; then they are inverted and blurred, and
sent with `preprocess=raw`, so that nothing puts them right. What is printed and drawn is read from
Prometheus. Exit status: 0 when the alerts fire on the drifted part, and only there; 1 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from benchmarks.prometheus import Prometheus, prometheus

ROOT = Path(__file__).parents[1]
FASTER = 60  # an hour of the rules is a minute of the story
CLIENTS = 8
RATE = 50  # images a second, all clients together
ALERTS = ("VitrineAccuracyLow", "VitrineDrift")
FIGURES = {  # MODEL is the name of the model that does the task
    "accuracy": 'vitrine:accuracy:ratio1h{model="MODEL", source="audit"}',
    "accuracy, lower bound": 'vitrine:accuracy_lower:ratio1h{model="MODEL", source="audit"}',
    "accuracy, upper bound": 'vitrine:accuracy_upper:ratio1h{model="MODEL", source="audit"}',
    "estimate": 'vitrine:accuracy_estimate:ratio1h{model="MODEL"}',
    "manifest": 'vitrine:offline_accuracy:ratio{model="MODEL"}',
    "PSI of class": 'vitrine:psi:sum1h{model="MODEL", of="class"}',
    "PSI of confidence": 'vitrine:psi:sum1h{model="MODEL", of="confidence"}',
    "PSI of ink": 'vitrine:psi:sum1h{model="MODEL", of="ink"}',
}

Picture = Image.Image


@dataclass(frozen=True)
class Part:
    """A part of the story: how its images are changed and asked about, and how long it lasts."""

    name: str
    query: str
    change: Callable[[Picture], Picture]
    seconds: float


PARTS = (
    Part("clean", "", lambda image: image, 75),
    Part(
        "drifted",
        "?preprocess=raw",
        lambda image: ImageOps.invert(image).filter(ImageFilter.GaussianBlur(1.5)),
        110,  # an hour for the window to forget the clean part, and half of one that drift lasts
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the story; see the module's own words."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python -m benchmarks.drift --out drift.png",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="digits", help="a model's or a task's name")
    parser.add_argument("--state", type=Path, help="a state folder whose models are served, too")
    parser.add_argument("--out", type=Path, help="draw what happened into this file (.png)")
    arguments = parser.parse_args(argv)
    images, labels, source = digits()
    print(f"{len(images)} {source}, {RATE} a second; an hour of the rules is a minute")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vitrine-drift-")))
        url = stack.enter_context(service(folder, arguments.state))
        server = stack.enter_context(
            prometheus(folder / "prometheus", url.removeprefix("http://"), faster=FASTER)
        )
        model = httpx.get(f"{url}/v1/models/{arguments.model}").json()["name"]
        queries = {name: query.replace("MODEL", model) for name, query in FIGURES.items()}
        server.wait(f'vitrine_live_version{{model="{model}"}} > 0')
        started = time.time()
        ends, fired = [], []
        figures: list[dict[str, float | None]] = []
        for part in PARTS:
            print(f"{part.name}: {part.seconds:g} s ...", flush=True)
            files = [png(part.change(Image.fromarray(image))) for image in images]
            _send(url, model, part, files, labels)
            ends.append(time.time())
            figures.append({name: server.value(query) for name, query in queries.items()})
            fired.append(server.firing())
        _print(figures, fired)
        if arguments.out:
            _draw(server, queries, started, ends, arguments.out)
            print(f"drawn: {arguments.out}")
    clean, drifted = ({name for name in ALERTS if name in names} for names in fired)
    if clean or drifted != set(ALERTS):
        print("the alerts did not fire on the drifted part and only there", file=sys.stderr)
        return 1
    print("the alerts fired on the drifted part, and only there")
    return 0


def _send(url: str, model: str, part: Part, files: list[bytes], labels: NDArray[np.uint8]) -> None:
    """Classify and label images in turn, at the story's rate, for the part's time."""
    numbers = iter(range(sys.maxsize))
    lock = threading.Lock()
    began = time.monotonic()

    def client() -> None:
        with httpx.Client(base_url=url, timeout=30) as session:
            while True:
                with lock:
                    number = next(numbers)
                due = began + number / RATE
                if due - began > part.seconds:
                    return
                time.sleep(max(0.0, due - time.monotonic()))
                at = number % len(files)
                answer = session.post(
                    f"/v1/classify/{model}{part.query}",
                    content=files[at],
                    headers={"content-type": "image/png"},
                )
                if answer.status_code == 422:
                    continue  # no digit was found; nothing was predicted, so nothing to label
                receipt = answer.raise_for_status().json()["predictions"][0]["id"]
                label = {"id": receipt, "label": str(labels[at]), "source": "audit"}
                session.post("/v1/feedback", json=label).raise_for_status()

    with ThreadPoolExecutor(CLIENTS) as pool:
        for running in [pool.submit(client) for _ in range(CLIENTS)]:
            running.result()
    time.sleep(3)  # a scrape, and two evaluations of rules that build on each other


def _print(figures: list[dict[str, float | None]], fired: list[set[str]]) -> None:
    names = [part.name for part in PARTS]
    print(f"\n{'in the last hour':<24}{names[0]:>10}{names[1]:>10}")
    for name in FIGURES:
        shown = ["" if found[name] is None else f"{found[name]:.4f}" for found in figures]
        print(f"{name:<24}{shown[0]:>10}{shown[1]:>10}")
    for alert in sorted({*ALERTS, *fired[0], *fired[1]}):
        shown = ["fires" if alert in names else "-" for names in fired]
        print(f"{alert:<24}{shown[0]:>10}{shown[1]:>10}")
    print()


def _draw(
    server: Prometheus, queries: dict[str, str], started: float, ends: list[float], out: Path
) -> None:
    """Accuracy above, stability below, over the story's hours."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    def hours(name: str) -> tuple[list[float], list[float]]:
        points = server.series(queries[name], started)
        return [(at - started) * FASTER / 3600 for at, _ in points], [value for _, value in points]

    figure, (above, below) = plt.subplots(2, 1, figsize=(9, 6.5), sharex=True, layout="constrained")
    at, low = hours("accuracy, lower bound")
    _, high = hours("accuracy, upper bound")
    above.fill_between(at, low, high, alpha=0.25, label="95 % interval (Wilson)")
    above.plot(*hours("accuracy"), label="accuracy, by labels of an audit")
    above.plot(*hours("estimate"), label="estimate, without labels")
    above.plot(*hours("manifest"), "k--", linewidth=1, label="test accuracy in the manifest")
    above.set(ylabel="share right, last hour", ylim=(0, 1.02))
    for of in ("class", "confidence", "ink"):
        below.plot(*hours(f"PSI of {of}"), label=of)
    below.axhline(0.2, color="k", linestyle="--", linewidth=1, label="alert above 0.2")
    below.set(ylabel="population stability index", xlabel="hours", yscale="log", ylim=(1e-3, 20))
    for axes, alert in ((above, ALERTS[0]), (below, ALERTS[1])):
        fires = server.series(f'max(ALERTS{{alertname="{alert}", alertstate="firing"}})', started)
        if fires:
            when = (fires[0][0] - started) * FASTER / 3600
            axes.axvline(when, color="tab:red", linewidth=1.5, label=f"{alert} fires")
        axes.axvline((ends[0] - started) * FASTER / 3600, color="grey", linewidth=1)
        axes.legend(loc="center left" if axes is above else "lower right", fontsize=8)
        axes.grid(alpha=0.3)
    above.set_title("The same digits, then inverted and blurred (from the grey line on)")
    figure.savefig(out, dpi=120)
    plt.close(figure)


@contextlib.contextmanager
def service(folder: Path, models_of: Path | None) -> Iterator[str]:
    """Two workers on a port and a state folder of their own, ready."""
    state = folder / "state"
    state.mkdir()
    if models_of is not None:
        shutil.copytree(models_of / "models", state / "models")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = dict(os.environ, VITRINE_STATE=str(state), VITRINE_WORKERS="2")
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "serve", "--port", str(port)],
            env=environ,
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 180
        while not _ready(url):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit((folder / "server.log").read_text())
            time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def digits() -> tuple[NDArray[np.uint8], NDArray[np.uint8], str]:
    """MNIST test images and labels: the first 2,000 of VITRINE_DATA, else the committed ones."""
    folder = Path(os.environ.get("VITRINE_DATA", "data")) / "mnist"
    images = folder / "t10k-images-idx3-ubyte.gz"
    labels = folder / "t10k-labels-idx1-ubyte.gz"
    if images.is_file() and labels.is_file():
        pixels = np.frombuffer(gzip.decompress(images.read_bytes()), np.uint8, offset=16)
        digits = np.frombuffer(gzip.decompress(labels.read_bytes()), np.uint8, offset=8)
        return pixels.reshape(-1, 28, 28)[:2000], digits[:2000], "MNIST test images"
    with np.load(ROOT / "tests/data/mnist/mnist.npz") as stored:
        return stored["images"], stored["labels"], "MNIST test images from tests/data, in turn"


def png(image: Picture) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    raise SystemExit(main())
