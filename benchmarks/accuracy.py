"""The accuracy of a running service: every test image as a PNG over HTTP, against the manifest.

    python -m benchmarks.accuracy --url http://localhost:3000 --task digits --data data

Exit 0 when the accuracy is exactly what the live version's manifest says, else 1.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import io
import sys
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from training import data

DATASETS = {"digits": "mnist", "fashion": "fashion-mnist", "objects": "cifar10"}
CHUNK = 50  # images in one request


def classify(client: httpx.Client, url: str, images: NDArray[np.uint8]) -> list[int]:
    """The predicted class of each image; -1 where the service found nothing in it."""
    form = []
    for image in images:
        packed = io.BytesIO()
        Image.fromarray(image).save(packed, "PNG")
        form.append(("image", ("image.png", packed.getvalue(), "image/png")))
    answer = client.post(url, files=form)
    answer.raise_for_status()
    return [entry.get("index", -1) for entry in answer.json()["predictions"]]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Send all test images of a task to a running service, as PNGs.",
        epilog="example: python -m benchmarks.accuracy --task fashion --data data",
    )
    parser.add_argument("--url", default="http://127.0.0.1:3000", help="(%(default)s)")
    parser.add_argument("--task", default="digits", choices=DATASETS, help="(%(default)s)")
    parser.add_argument("--model", help="a model's name; the task's model if not given")
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    arguments = parser.parse_args(argv)
    name = arguments.model or arguments.task
    test = data.load_test(data.dataset_named(DATASETS[arguments.task]), arguments.data)
    url = f"{arguments.url}/v1/classify/{name}"
    with httpx.Client(timeout=60) as client, concurrent.futures.ThreadPoolExecutor(4) as pool:
        manifest = client.get(f"{arguments.url}/v1/models/{name}").raise_for_status().json()
        chunks = [test.pixels[at : at + CHUNK] for at in range(0, len(test.pixels), CHUNK)]
        answers = pool.map(lambda chunk: classify(client, url, chunk), chunks)
        bar = tqdm(answers, total=len(chunks), unit="request", disable=not sys.stderr.isatty())
        found = np.array([index for chunk in bar for index in chunk])
    correct, stated = int((found == test.labels).sum()), manifest["test"]
    same = (correct, len(found)) == (stated["correct"], stated["count"])
    print(
        f"{manifest['name']} {manifest['version']}: {correct:,} of {len(found):,} over HTTP, "
        f"{stated['correct']:,} of {stated['count']:,} in the manifest: "
        f"{'the same' if same else 'NOT THE SAME'}"
    )
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
