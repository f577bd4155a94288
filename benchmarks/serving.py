"""`make bench`: this service and its peers under the same load, one core each, side by side.

Every server is started once and checked for right answers; then, round after round, each is woken
in turn, loaded by wrk and stopped again (SIGSTOP), so that a disturbance of the machine falls on
all of them. Medians over the rounds; the spread is given with them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import onnxruntime

from benchmarks import asking, ceiling, forms, images, reference, report, wrk
from benchmarks.forms import Form
from benchmarks.servers import SERVERS, Place, Running, Server, end_on_sigterm, free_port

CONNECTIONS = (32, 1)
WARM_UP_S = 1.0


@dataclass
class Row:
    """One server asked in one form over so many connections, and the runs it had."""

    server: str
    form: str
    rows: int
    connections: int
    runs: list[wrk.Run] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)  # the server's processor time for a request

    @property
    def rate(self) -> float:
        """The median of answers a second."""
        return median(run.rate for run in self.runs)


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


def measure(
    servers: list[Server], *, rounds: int, seconds: float, server_cpu: str, load_cpu: int
) -> dict[str, object]:
    """Everything of one comparison, as a record that can be written as JSON."""
    shown = images.load()
    model = reference.build()
    wanted = reference.session(model).run(["probabilities"], {"images": shown.pixels})[0]
    rows: dict[tuple[str, str, int], Row] = {}
    ceilings: list[dict[str, float]] = []
    left_out: dict[str, str] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vitrine-bench-")))
        path = folder / "model.onnx"
        path.write_bytes(model)
        running: list[tuple[Running, Form, Path]] = []
        for number, server in enumerate(servers):
            if not server.installed():
                left_out[server.name] = "not installed: python -m benchmarks.setup"
                continue
            place = Place(port=free_port(), folder=folder / str(number), model=path)
            one = Running(server, place, server_cpu)
            stack.callback(one.stop)
            one.wait_ready()
            for form in server.forms:
                requests = form.requests(shown)
                try:
                    asking.check(place.port, form, requests, wanted)
                except asking.WrongAnswer as error:
                    left_out[f"{server.name}, {form.name}"] = str(error)
                    say(f"left out: {server.name}: {error}")
                    continue
                file = place.folder / f"{form.name}.requests".replace(" ", "-")
                forms.write(requests, file)
                running.append((one, form, file))
            one.pause()
            say(f"{server.name}: ready, answers are right")
        for turn in range(rounds):
            say(f"round {turn + 1} of {rounds}")
            ceilings.append(ceiling.pinned(path, seconds / 2, server_cpu))
            for one, form, file in running:
                one.resume()
                port = one.place.port
                for connections in CONNECTIONS:
                    key = (one.server.name, form.name, connections)
                    row = rows.setdefault(key, Row(key[0], form.name, form.rows, connections))
                    for length in (WARM_UP_S, seconds):
                        before = one.cpu_s()
                        run = wrk.run(
                            port, file, connections=connections, seconds=length, cpu=load_cpu
                        )
                    row.runs.append(run)
                    spent = one.cpu_s() - before
                    row.cpu_us.append(spent * 1e6 / max(1.0, run.rate * seconds))
                one.pause()
    return report.record(
        list(rows.values()), ceilings, left_out, images=shown.source, seconds=seconds, gpu=_gpu()
    )


def _gpu() -> str:
    """What the CUDA row says."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return "not run: no GPU here"
    return "not run: BENCH_EXECUTION_PROVIDER=cuda measures it"


def main(argv: list[str] | None = None) -> int:
    """The command line; 1 when a server had to be left out or an answer was not 2xx."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description="Measure this service and its peers side by side.",
        epilog="example: python -m benchmarks.serving --rounds 5 --out bench",
    )
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="for one run (%(default)s)")
    parser.add_argument("--only", nargs="*", help="names of servers, e.g. Vitrine Triton")
    parser.add_argument("--server-cpu", default="0", help="the servers' core (%(default)s)")
    parser.add_argument("--load-cpu", type=int, default=1, help="wrk's core (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("bench"), help="folder (%(default)s)")
    chosen = parser.parse_args(argv)
    end_on_sigterm()
    servers = [s for s in SERVERS if not chosen.only or s.name in chosen.only]
    record = measure(
        servers,
        rounds=chosen.rounds,
        seconds=chosen.seconds,
        server_cpu=chosen.server_cpu,
        load_cpu=chosen.load_cpu,
    )
    print(report.write(record, chosen.out))
    return 1 if record["left_out"] or record["bad"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
