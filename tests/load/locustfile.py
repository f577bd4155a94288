"""Load for a running service, with limits it must keep: `make load URL=http://host:3000`.

Every user sends real images from a folder (VITRINE_LOAD_IMAGES, default tests/data) to several
models: one PNG at a time, sometimes several in one request, sometimes a V2 tensor. The run fails
(exit status 1) when the 99th percentile or the share of failed requests is over its limit.
"""

from __future__ import annotations

import io
import os
import random
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from locust import FastHttpUser, between, events, task
from locust.env import Environment
from locust.runners import WorkerRunner
from locust.stats import RequestStats
from PIL import Image

FOLDER = Path(os.environ.get("VITRINE_LOAD_IMAGES", Path(__file__).parent.parent / "data"))
# Tasks or models that are asked, each with the folder of its images below FOLDER.
MODELS = {"digits": "mnist", "fashion": "fashion-mnist", "objects": "cifar10"}
MAX_P99_MS = float(os.environ.get("VITRINE_LOAD_P99_MS", "100"))
MAX_ERRORS = float(os.environ.get("VITRINE_LOAD_ERRORS", "0.001"))  # share of all requests, 0..1
ABOUT = ("models", "metadata")  # names of the requests that ask for no prediction
SEVERAL = 8  # images in a request that has several


def find_images(folder: Path) -> dict[str, list[bytes]]:
    """The PNG and JPEG files for each model. Raises SystemExit where there are none at all.

    A folder without the folders of MODELS is taken whole, for the task `digits`.
    """
    found = {model: _files(folder / name) for model, name in MODELS.items()}
    found = {model: files for model, files in found.items() if files}
    if not found and (files := _files(folder)):
        found = {"digits": files}
    if not found:
        raise SystemExit(f"{folder}: no PNG or JPEG file; set VITRINE_LOAD_IMAGES to a folder")
    return found


def _files(folder: Path) -> list[bytes]:
    kinds = {".png", ".jpg", ".jpeg"}
    return [p.read_bytes() for p in sorted(folder.rglob("*")) if p.suffix.lower() in kinds]


def failures(stats: RequestStats, max_p99_ms: float, max_errors: float) -> list[str]:
    """What is wrong with Locust's figures, in words; empty when the limits were kept."""
    wrong = []
    total = stats.total
    asked = sum(e.num_requests for (name, _), e in stats.entries.items() if name not in ABOUT)
    if asked == 0:
        return ["not one prediction was asked for"]
    p99 = total.get_response_time_percentile(0.99)
    if p99 > max_p99_ms:
        wrong.append(f"p99 is {p99:.0f} ms, at most {max_p99_ms:g} is allowed")
    if total.fail_ratio > max_errors:
        wrong.append(f"{total.fail_ratio:.2%} of requests failed, at most {max_errors:.2%} may")
    return wrong


def _judge(environment: Environment, **_: Any) -> None:
    """Locust's exit status: 1 when a limit was not kept. A worker leaves it to its master."""
    if isinstance(environment.runner, WorkerRunner):
        return
    wrong = failures(environment.stats, MAX_P99_MS, MAX_ERRORS)
    for line in wrong:
        print(f"FAILED: {line}")
    environment.process_exit_code = 1 if wrong else 0


events.quitting.add_listener(_judge)  # type: ignore[no-untyped-call]


class Client(FastHttpUser):
    """Someone who asks again soon after each answer."""

    wait_time = between(0.005, 0.05)
    images: ClassVar[dict[str, list[bytes]]] = {}
    shapes: ClassVar[dict[str, list[int]]] = {}

    def on_start(self) -> None:
        """Read the images once for all users; ask which models the service has."""
        if not self.images:
            images = find_images(FOLDER)
            served = self.client.get("/v1/models", name="models").json()["models"]
            known = {task for model in served for task in model["tasks"]}
            known |= {model["name"] for model in served}
            Client.images = {m: files for m, files in images.items() if m in known}
            if not self.images:
                raise SystemExit(f"the service has none of {', '.join(MODELS)}")

    @task(20)
    def one_image(self) -> None:
        """One PNG or JPEG -> one label."""
        model, files = self._choose()
        self._post(
            f"/v1/classify/{model}",
            random.choice(files),
            {"Content-Type": "application/octet-stream"},
            f"{model}: one image",
        )

    @task(2)
    def several_images(self) -> None:
        """A form with several images; each must have a label."""
        model, files = self._choose()
        body, kind = _form(random.choices(files, k=SEVERAL))
        headers = {"Content-Type": kind}
        name = f"{model}: {SEVERAL} images"
        with self._post(f"/v1/classify/{model}", body, headers, name, catch=True) as answer:
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}")
            elif any("error" in one for one in answer.json()["predictions"]):
                answer.failure("an image of several has no label")

    @task(3)
    def tensor(self) -> None:
        """A raw V2 tensor, as Triton's clients send it."""
        model, files = self._choose()
        shape = self._shape(model)
        mode = "L" if len(shape) == 2 else "RGB"
        image = Image.open(io.BytesIO(random.choice(files))).convert(mode)
        pixels = np.asarray(image.resize((shape[1], shape[0])), np.uint8)
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": "0",
        }
        self._post(f"/v2/models/{model}/infer", pixels.tobytes(), headers, f"{model}: tensor")

    def _post(
        self, path: str, body: bytes, headers: dict[str, str], name: str, catch: bool = False
    ) -> Any:
        data: Any = body  # Locust says str, and takes bytes
        return self.client.post(path, data=data, headers=headers, name=name, catch_response=catch)

    def _choose(self) -> tuple[str, list[bytes]]:
        model = random.choice(list(self.images))
        return model, self.images[model]

    def _shape(self, model: str) -> list[int]:
        """The shape of one image, as the service's metadata has it; asked once."""
        if model not in self.shapes:
            answer = self.client.get(f"/v2/models/{model}", name="metadata").json()
            self.shapes[model] = [int(side) for side in answer["inputs"][0]["shape"][1:]]
        return self.shapes[model]


def _form(files: list[bytes]) -> tuple[bytes, str]:
    """A multipart body of files, and its content type."""
    boundary = "vitrine-load"
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="images"; filename="%d"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n%s\r\n" % (boundary.encode(), number, data)
        for number, data in enumerate(files)
    ]
    body = b"".join(parts) + b"--%s--\r\n" % boundary.encode()
    return body, f"multipart/form-data; boundary={boundary}"
