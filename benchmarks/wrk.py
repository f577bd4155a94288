"""wrk, the closed-loop load generator: one run and what it counted."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).parent / "wrk.lua"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of wrk. Latencies in milliseconds, as a closed loop sees them."""

    rate: float  # answers a second, good ones only
    bad: int  # answers with a status of 400 or more
    lost: int  # connections that failed, reads, writes, time-outs
    p50_ms: float
    p99_ms: float
    max_ms: float


def run(port: int, requests: Path, *, connections: int, seconds: float, cpu: int) -> Run:
    """Load the server on `port` with the requests of a file; wrk is pinned to `cpu`.

    Raises SystemExit if wrk is missing, CalledProcessError if it fails.
    """
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: install it (Debian: apt-get install wrk)")
    command = ["taskset", "-c", str(cpu), "wrk", "-t1", f"-c{connections}"]
    command.append(f"-d{max(1, round(seconds))}s")  # wrk knows whole seconds only
    command += ["--timeout", "10s", "-s", str(SCRIPT), f"http://127.0.0.1:{port}", "--"]
    ended = subprocess.run(
        [*command, str(requests)], capture_output=True, text=True, timeout=seconds + 60, check=True
    )
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("RESULT ")]
    counted = json.loads(line.removeprefix("RESULT "))
    good = counted["requests"] - counted["bad"]
    return Run(
        rate=good / (counted["duration_us"] / 1e6),
        bad=counted["bad"],
        lost=counted["lost"],
        p50_ms=counted["p50_us"] / 1e3,
        p99_ms=counted["p99_us"] / 1e3,
        max_ms=counted["max_us"] / 1e3,
    )
