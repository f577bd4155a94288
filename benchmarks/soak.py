"""`make soak`: bounded minutes of mixed load at 70 % of capacity; memory, pauses, bad answers.

Pauses are seen twice: from outside, by a probe of /livez every 10 ms under the load, and from
inside, by the service's own histogram of its event loop's lag.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import asking, forms, images, openloop, reference, wrk
from benchmarks.servers import OURS, SERVERS, Place, Running, end_on_sigterm, free_port

MIX = {"PNG": 0.5, "PNG, placed": 0.2, "V2 binary": 0.2, "V2 JSON": 0.1}  # shares of requests
LOAD = 0.7  # of the capacity that wrk finds for PNG
PROBES = 100.0  # a second
PROBE = b"GET /livez HTTP/1.1\r\nHost: bench\r\n\r\n"
SAMPLE_S = 2.0
MEGABYTE = 1024 * 1024


def measure(minutes: float, server_cpu: str, load_cpu: int, least: int) -> dict[str, Any]:
    """Load for `minutes`, and on until `least` requests were sent."""
    os.sched_setaffinity(0, {load_cpu})
    shown = images.load()
    model = reference.build()
    wanted = reference.session(model).run(["probabilities"], {"images": shown.pixels})[0]
    (server,) = [one for one in SERVERS if one.name == OURS]
    with tempfile.TemporaryDirectory(prefix="vitrine-soak-") as name:
        folder = Path(name)
        path = folder / "model.onnx"
        path.write_bytes(model)
        place = Place(port=free_port(), folder=folder / "server", model=path)
        running = Running(server, place, server_cpu)
        try:
            running.wait_ready()
            worker = max(running.processes(), key=lambda one: int(one.memory_info().rss))
            at_start = _rss(worker)
            requests = {}
            for form in server.forms:
                if form.name in MIX:
                    requests[form.name] = form.requests(shown)
                    asking.check(place.port, form, requests[form.name], wanted)
            file = folder / "requests"
            forms.write(requests["PNG"], file)
            warm = wrk.run(place.port, file, connections=32, seconds=5, cpu=load_cpu)
            rate = LOAD * warm.rate
            memory = [_rss(worker)]
            streams = [
                openloop.Stream(name=form, requests=requests[form], rate=rate * share)
                for form, share in MIX.items()
                if form in requests
            ]
            probe = openloop.Stream(name="probe", requests=[PROBE], rate=PROBES, even=True)
            seconds = max(minutes * 60, least / rate)
            outcome = openloop.run(
                place.port,
                [*streams, probe],
                seconds=seconds,
                every=(SAMPLE_S, lambda: memory.append(_rss(worker))),
            )
            lag = _lag(place.port)
        finally:
            running.stop()
    return _summary(outcome, memory, at_start, rate, lag)


def _rss(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / MEGABYTE


def _lag(port: int) -> dict[str, int]:
    """The service's own count of event loop lags by bucket (seconds, cumulative)."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    lines = r'vitrine_event_loop_lag_seconds_bucket{.*?le="([^"]+)".*?} (\S+)'
    found = re.findall(lines, text)
    return {limit: int(float(count)) for limit, count in found}


def _summary(
    outcome: openloop.Outcome,
    memory: list[float],
    at_start: float,
    rate: float,
    lag: dict[str, int],
) -> dict[str, Any]:
    loaded = {name: a for name, a in outcome.streams.items() if name != "probe"}
    every = np.concatenate([answers.latencies() for answers in loaded.values()]) * 1e3
    probes = outcome.streams["probe"].latencies() * 1e3
    # The first tenth fills pools and caches; growth is what comes after it.
    settled = float(np.median(memory[len(memory) // 10 :][:5]))
    at_end = float(np.median(memory[-5:]))
    return {
        "seconds": round(outcome.seconds, 1),
        "offered": rate,
        "requests": sum(answers.sent for answers in loaded.values()),
        "bad": sum(answers.bad for answers in outcome.streams.values()),
        "p50_ms": float(np.percentile(every, 50)),
        "p99_ms": float(np.percentile(every, 99)),
        "p999_ms": float(np.percentile(every, 99.9)),
        "max_ms": float(every.max()),
        "probe_p99_ms": float(np.percentile(probes, 99)),
        "probe_max_ms": float(probes.max()),
        "loop_lag": lag,
        "generator_lag_us": outcome.lag_s * 1e6,
        "rss_mb": {"start": at_start, "settled": settled, "end": at_end, "highest": max(memory)},
        "growth": at_end / settled - 1.0,
        "memory_mb": [round(value, 1) for value in memory],
    }


def main(argv: list[str] | None = None) -> int:
    """The command line; 1 when an answer was not 2xx."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description="Mixed load for some minutes: memory, pauses, bad answers.",
        epilog="example: python -m benchmarks.soak --minutes 5 --requests 1000000",
    )
    parser.add_argument("--minutes", type=float, default=5, help="at least (%(default)s)")
    parser.add_argument("--requests", type=int, default=0, help="at least (%(default)s)")
    parser.add_argument("--server-cpu", default="0", help="the server's core (%(default)s)")
    parser.add_argument("--load-cpu", type=int, default=1, help="our own core (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("bench"), help="folder (%(default)s)")
    chosen = parser.parse_args(argv)
    end_on_sigterm()
    found = measure(chosen.minutes, chosen.server_cpu, chosen.load_cpu, chosen.requests)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "soak.json").write_text(json.dumps(found, indent=1) + "\n")
    json.dump({k: v for k, v in found.items() if k != "memory_mb"}, sys.stdout, indent=1)
    print()
    return 1 if found["bad"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
