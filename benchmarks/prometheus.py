"""A real Prometheus with the project's own rules, for tests and for the story of drift."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

ROOT = Path(__file__).parents[1]
RULES = ROOT / "deploy/prometheus/rules"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\[|for: )(\d+)([smhd])\b")

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Prometheus:
    """A running server's HTTP API."""

    url: str

    def query(self, expression: str) -> dict[Labels, float]:
        """The instant value of each series, by its labels, sorted; NaN is left out."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression})
        record = answer.json()
        if record["status"] != "success":
            raise ValueError(f"{expression}: {record['error']}")
        result = record["data"]["result"]
        if record["data"]["resultType"] == "scalar":
            return {(): float(result[1])}
        found = {_labels(entry["metric"]): float(entry["value"][1]) for entry in result}
        return {labels: value for labels, value in found.items() if value == value}

    def value(self, expression: str) -> float | None:
        """The value of an expression that has one series, or none."""
        found = self.query(expression)
        if len(found) > 1:
            raise ValueError(f"{expression} has {len(found)} series, expected one")
        return next(iter(found.values()), None)

    def series(self, expression: str, start: float) -> list[tuple[float, float]]:
        """(Unix seconds, value) since `start` of an expression that has one series, or none."""
        parameters: dict[str, str | float] = {
            "query": expression,
            "start": start,
            "end": time.time(),
            "step": 1,
        }
        answer = httpx.get(f"{self.url}/api/v1/query_range", params=parameters)
        results = answer.json()["data"]["result"]
        if not results:
            return []
        points = [(float(at), float(value)) for at, value in results[0]["values"]]
        return [(at, value) for at, value in points if value == value]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {dict(labels)["alertname"] for labels in self.query('ALERTS{alertstate="firing"}')}

    def wait(
        self,
        expression: str,
        enough: Callable[[dict[Labels, float]], Any] = bool,
        limit_s: float = 90,
    ) -> dict[Labels, float]:
        """The first answer to `expression` that is `enough`. Raises TimeoutError with the last."""
        end = time.monotonic() + limit_s
        while True:
            found = self.query(expression)
            if enough(found):
                return found
            if time.monotonic() > end:
                raise TimeoutError(f"{expression} is {found} after {limit_s:g} s")
            time.sleep(0.2)


@contextmanager
def prometheus(folder: Path, target: str, *, faster: int = 60) -> Iterator[Prometheus]:
    """A Prometheus that scrapes `target` (host:port) every second, with the project's rules.

    Every duration in the rules is divided by `faster`: by 60, an hour passes in a minute.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise FileNotFoundError("prometheus is missing; Debian: apt-get install prometheus")
    rules = folder / "rules"
    rules.mkdir(parents=True)
    for path in sorted(RULES.glob("*.yml")):
        (rules / path.name).write_text(faster_rules(path.read_text(), faster))
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules / "*.yml")],
        "scrape_configs": [{"job_name": "vitrine", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_until_ready(f"http://{address}", process, folder / "prometheus.log")
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(20)


def faster_rules(text: str, factor: int) -> str:
    """Rules whose windows and waits are divided by `factor`, rounded up to whole seconds."""

    def divided(found: re.Match[str]) -> str:
        seconds = int(found[2]) * _SECONDS[found[3]]
        return f"{found[1]}{-(-seconds // factor)}s"

    return _DURATION.sub(divided, text)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            if httpx.get(f"{url}/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"Prometheus did not start: {log.read_text()}")
        time.sleep(0.05)


def _labels(metric: dict[str, str]) -> Labels:
    return tuple(sorted((name, value) for name, value in metric.items() if name != "__name__"))
