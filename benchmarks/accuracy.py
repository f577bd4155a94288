"""The accuracy of a running service: every test image as a PNG over HTTP, against the manifest.

    python -m benchmarks.accuracy --url http://localhost:3000 --all --data data

Exit 0 when the accuracy is exactly what each live version's manifest says, else 1.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from training import data

DATASETS = {"digits": "mnist", "fashion": "fashion-mnist", "objects": "cifar10"}
CHUNK = 50  # images in one request
PATIENCE = 60  # times that a request is made before it is given up


def png(image: NDArray[np.uint8]) -> bytes:
    """uint8[H, W] or uint8[H, W, 3] as a PNG."""
    packed = io.BytesIO()
    Image.fromarray(image).save(packed, "PNG")
    return packed.getvalue()


def classify(client: httpx.Client, url: str, files: Sequence[bytes]) -> list[int]:
    """The predicted class of each image; -1 where the service found nothing in it."""
    form = [("image", ("image", file, "application/octet-stream")) for file in files]
    for _ in range(PATIENCE):  # a busy machine refuses what it cannot answer in time
        answer = client.post(url, files=form)
        if answer.status_code not in (429, 504):
            break
        time.sleep(0.5)
    if answer.status_code != 422:  # 422: nothing was found in any of them
        answer.raise_for_status()
    return [entry.get("index", -1) for entry in answer.json()["predictions"]]


def ask(
    url: str, name: str, files: Sequence[bytes], about: str = "", chunk: int = CHUNK
) -> NDArray[np.int64]:
    """`classify` of any number of files by the service at `url`, four requests at a time."""
    path = f"{url}/v1/classify/{name}"
    chunks = [files[at : at + chunk] for at in range(0, len(files), chunk)]
    with httpx.Client(timeout=60) as client, concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda chunk: classify(client, path, chunk), chunks)
        bar = tqdm(
            answers, about, total=len(chunks), unit="request", disable=not sys.stderr.isatty()
        )
        return np.array([index for chunk in bar for index in chunk])


def manifest_of(url: str, name: str) -> dict[str, Any]:
    """The live version's manifest, from the service at `url`."""
    found: dict[str, Any] = httpx.get(f"{url}/v1/models/{name}").raise_for_status().json()
    return found


def names_of(url: str) -> list[str]:
    """Every model that the service at `url` answers for."""
    found = httpx.get(f"{url}/v1/models").raise_for_status().json()
    return [str(entry["name"]) for entry in found["models"]]


def compare(url: str, name: str, folder: Path | None) -> bool:
    """Ask a model for all test images of its task; whether as many are right as it states."""
    manifest = manifest_of(url, name)
    test = data.load_test(data.dataset_named(DATASETS[manifest["task"]]), folder)
    found = ask(url, name, [png(image) for image in test.pixels], name)
    correct, stated = int((found == test.labels).sum()), manifest["test"]
    same = (correct, len(found)) == (stated["correct"], stated["count"])
    print(
        f"{manifest['name']} {manifest['version']}: {correct:,} of {len(found):,} over HTTP, "
        f"{stated['correct']:,} of {stated['count']:,} in the manifest: "
        f"{'the same' if same else 'NOT THE SAME'}"
    )
    return same


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Send all test images to models of a running service, as PNGs.",
        epilog="example: python -m benchmarks.accuracy digits mnist-mlp256x2 --data data",
    )
    parser.add_argument("models", nargs="*", help="of models or tasks (default: each task's model)")
    parser.add_argument("--all", action="store_true", help="every model of the service")
    parser.add_argument("--url", default="http://127.0.0.1:3000", help="(%(default)s)")
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    arguments = parser.parse_args(argv)
    names = names_of(arguments.url) if arguments.all else arguments.models or list(DATASETS)
    same = [compare(arguments.url, name, arguments.data) for name in names]
    return 0 if all(same) else 1


if __name__ == "__main__":
    raise SystemExit(main())
