"""Exact to the last label: feedback's totals in Prometheus against what the answers said.

Starts two workers and a Prometheus; sends 2,000 real test images and their labels as an audit;
kills a worker (SIGKILL) in the middle. Exit 0 when the totals and the whole confusion matrix, as
Prometheus has them, equal those counted from the answers.

    python -m benchmarks.totals
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from benchmarks.drift import digits, png, service
from benchmarks.prometheus import prometheus

CLIENTS = 8
PATIENCE_S = 60.0  # for one request, while the killed worker is replaced


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; see the module's own words."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="digits", help="a model's or a task's name")
    model = parser.parse_args(argv).model
    images, labels, source = digits()
    print(f"{len(images)} {source}, two workers, one of them killed half way")
    answered: Counter[tuple[str, str]] = Counter()  # (true, predicted)
    lock = threading.Lock()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vitrine-totals-")))
        url = stack.enter_context(service(folder, None))
        server = stack.enter_context(
            prometheus(folder / "prometheus", url.removeprefix("http://"), faster=60)
        )
        half = threading.Event()

        def one(number: int) -> None:
            predicted = ask(
                f"{url}/v1/classify/{model}",
                content=png(Image.fromarray(images[number])),
                headers={"content-type": "image/png"},
            )["predictions"][0]
            true = str(labels[number])
            ask(
                f"{url}/v1/feedback",
                json={"id": predicted["id"], "label": true, "source": "audit"},
            )
            with lock:
                answered[true, predicted["label"]] += 1
                if sum(answered.values()) == len(images) // 2:
                    half.set()

        with ThreadPoolExecutor(CLIENTS) as pool:
            running = [pool.submit(one, number) for number in range(len(images))]
            half.wait()
            victim = next((folder / "state" / "workers").glob("*.json"))
            os.kill(int(victim.stem.rpartition("-")[2]), signal.SIGKILL)
            for each in running:
                each.result()
        query = 'vitrine_feedback_total{source="audit"}'
        wanted = sum(answered.values())
        found = server.wait(query, lambda series: sum(series.values()) >= wanted)
    totals = {
        (dict(name)["true_class"], dict(name)["predicted_class"]): int(value)
        for name, value in found.items()
        if value
    }
    correct = sum(count for (true, predicted), count in answered.items() if true == predicted)
    print(f"answers:    {wanted} labels, {correct} right, {len(answered)} cells of the matrix")
    correct = sum(count for (true, predicted), count in totals.items() if true == predicted)
    print(f"prometheus: {sum(totals.values())} labels, {correct} right, {len(totals)} cells")
    same = totals == dict(answered)
    print("equal, cell by cell" if same else "NOT EQUAL", file=sys.stdout if same else sys.stderr)
    return 0 if same else 1


def ask(url: str, **request: Any) -> dict[str, Any]:
    """The JSON answer; asked again while the worker that was asked is dead. Both calls are safe to
    repeat: a prediction keeps nothing, and the same label counts once."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            answer = httpx.post(url, timeout=20, **request)
            if answer.status_code != 503:  # a new worker that is still loading says so
                return dict(answer.raise_for_status().json())
        except httpx.TransportError:
            pass
        if time.monotonic() > end:
            raise SystemExit(f"{url} did not answer within {PATIENCE_S:g} s")
        time.sleep(0.05)


if __name__ == "__main__":
    raise SystemExit(main())
