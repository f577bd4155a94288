"""`make bench-latency`: latency against offered load, ours and each peer's at the same rates.

Arrivals are random (Poisson) and latency counts from the intended send; see openloop.py. Then we
are offered three times what we can do: how much good work is left, how soon the rest is told.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import asking, forms, images, openloop, reference, stillness, wrk
from benchmarks.servers import OURS, SERVERS, Place, Running, end_on_sigterm, free_port
from benchmarks.serving import say

# Who is compared with whom: (server, form), ours first.
Members = tuple[tuple[str, str], ...]
Families = dict[str, Members]
FAMILIES: Families = {
    "PNG": (
        (OURS, "PNG"),
        ("BentoML", "PNG (multipart)"),
        ("BentoML, tuned", "PNG"),
        ("LitServe", "PNG (multipart)"),
    ),
    "V2": ((OURS, "V2 binary"), ("Triton", "V2 binary"), ("MLServer", "V2 JSON")),
}
SHARES = (0.3, 0.5, 0.7, 0.85)  # of our own capacity, beside 0.7 of each peer's
SUSTAINABLE = 0.95  # of a server's capacity: beyond it there is only the queue to measure
OVERLOAD = 3.0
OVERLOAD_FORMS = ("PNG", "V2 binary x32")
OVERLOAD_CONNECTIONS = 1536  # more than the rows that may wait
CAPACITY_S = 3.0
PERCENTILES = (50, 99, 99.9)


@dataclass
class Field:
    """Servers that run, one awake at a time, what each is asked, and how much of it each can do."""

    running: dict[str, Running] = field(default_factory=dict)
    asked: dict[tuple[str, str], list[bytes]] = field(default_factory=dict)  # (server, form)
    capacity: dict[tuple[str, str], float] = field(default_factory=dict)  # requests a second

    def offer(
        self, server: str, form: str, rate: float, seconds: float, connections: int | None = None
    ) -> openloop.Outcome:
        """Ask a server at a rate, after a second to get used to it."""
        one = self.running[server]
        stream = openloop.Stream(name=form, requests=self.asked[server, form], rate=rate)
        one.resume()
        if connections is None:
            openloop.run(one.place.port, [stream], seconds=1)
            outcome = openloop.run(one.place.port, [stream], seconds=seconds)
        else:
            outcome = openloop.run(
                one.place.port, [stream], seconds=seconds, connections=connections
            )
        one.pause()
        return outcome


def measure(
    seconds: float, server_cpu: str, load_cpu: int, only_overload: bool = False
) -> dict[str, Any]:
    """Every family at every rate, and our overload."""
    still = stillness.measure(server_cpu)
    say(f"with no server a request would wait p99 {still[0]:.2f} p99.9 {still[1]:.2f} ms")
    os.sched_setaffinity(0, {load_cpu})
    families = {} if only_overload else FAMILIES
    with ExitStack() as stack:
        servers = gather(stack, families, server_cpu, load_cpu)
        points = [
            point
            for family, members in families.items()
            for rate in rates(servers, members)
            for point in at_rate(servers, family, members, rate, seconds)
        ]
        overload = [overwhelm(servers, form, seconds) for form in OVERLOAD_FORMS]
    return {
        "stillness_ms": still,
        "capacities": {f"{server}: {form}": c for (server, form), c in servers.capacity.items()},
        "points": points,
        "overload": overload,
    }


def gather(stack: ExitStack, families: Families, server_cpu: str, load_cpu: int) -> Field:
    """Start the servers that the families and the overload need; `stack` ends them."""
    shown = images.load()
    model = reference.build()
    wanted = reference.session(model).run(["probabilities"], {"images": shown.pixels})[0]
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vitrine-bench-")))
    path = folder / "model.onnx"
    path.write_bytes(model)
    needed = {member for members in families.values() for member in members}
    needed |= {(OURS, form) for form in OVERLOAD_FORMS}
    found = Field()
    for server in SERVERS:
        named = [form for form in server.forms if (server.name, form.name) in needed]
        if not named or not server.installed():
            continue
        place = Place(port=free_port(), folder=folder / str(len(found.running)), model=path)
        one = found.running[server.name] = Running(server, place, server_cpu)
        stack.callback(one.stop)
        one.wait_ready()
        for form in named:
            requests = form.requests(shown)
            asking.check(place.port, form, requests, wanted)
            found.asked[server.name, form.name] = requests
            found.capacity[server.name, form.name] = capacity(place, requests, load_cpu)
            rate = found.capacity[server.name, form.name]
            say(f"{server.name}, {form.name}: {rate:,.0f} a second at most")
        one.pause()
    return found


def capacity(place: Place, requests: list[bytes], load_cpu: int) -> float:
    """Requests a second that a server answers to 32 connections, once it is warm."""
    file = place.folder / "requests"
    forms.write(requests, file)
    wrk.run(place.port, file, connections=32, seconds=1.0, cpu=load_cpu)
    return wrk.run(place.port, file, connections=32, seconds=CAPACITY_S, cpu=load_cpu).rate


def rates(servers: Field, members: Members) -> list[float]:
    """0.7 of what each peer can do, and shares of what we can."""
    own = servers.capacity[members[0]]
    peers = [servers.capacity[member] for member in members[1:] if member in servers.capacity]
    return sorted({0.7 * rate for rate in peers} | {share * own for share in SHARES})


def at_rate(
    servers: Field, family: str, members: Members, rate: float, seconds: float
) -> list[dict[str, Any]]:
    """A point for each member that can keep up with the rate."""
    able = [m for m in members if rate <= SUSTAINABLE * servers.capacity.get(m, 0.0)]
    return [
        _point(family, server, rate, servers.offer(server, form, rate, seconds), form)
        for server, form in able
    ]


def overwhelm(servers: Field, form: str, seconds: float) -> dict[str, Any]:
    """What becomes of three times as many requests as we can answer."""
    most = servers.capacity[OURS, form]
    outcome = servers.offer(OURS, form, OVERLOAD * most, seconds, OVERLOAD_CONNECTIONS)
    return _overload(form, most, outcome)


def _point(
    family: str, server: str, rate: float, outcome: openloop.Outcome, form: str
) -> dict[str, Any]:
    answers = outcome.streams[form]
    latencies = answers.latencies() * 1e3
    found = np.percentile(latencies, PERCENTILES).tolist() if len(latencies) else [0.0] * 3
    say(
        f"{server}, {form}, {rate:,.0f}/s: p50 {found[0]:.2f} p99 {found[1]:.2f} "
        f"p99.9 {found[2]:.2f} ms, {answers.bad} bad, generator {outcome.lag_s * 1e6:.0f} us late"
    )
    return {
        "family": family,
        "server": server,
        "form": form,
        "rate": rate,
        "p50_ms": found[0],
        "p99_ms": found[1],
        "p999_ms": found[2],
        "bad": answers.bad,
        "unsent": answers.unsent,
        "generator_lag_us": outcome.lag_s * 1e6,
    }


def _overload(form: str, capacity: float, outcome: openloop.Outcome) -> dict[str, Any]:
    answers = outcome.streams[form]
    good, refused = answers.on_the_wire(True), answers.on_the_wire(False)
    found = {
        "form": form,
        "capacity": capacity,
        "sent": answers.sent / outcome.seconds,
        "goodput": len(good) / outcome.seconds,
        "goodput_share": len(good) / outcome.seconds / capacity,
        "accepted_p99_ms": float(np.percentile(good, 99) * 1e3) if len(good) else None,
        "accepted_max_ms": float(good.max() * 1e3) if len(good) else None,
        "refused": len(refused),
        "refused_p99_ms": float(np.percentile(refused, 99) * 1e3) if len(refused) else None,
        "statuses": answers.statuses,
        "lost": answers.lost,
        "unsent": answers.unsent,
    }
    say(f"overload: {found}")
    return found


def table(found: dict[str, Any]) -> str:
    """The points and the overload as Markdown."""
    still = found["stillness_ms"]
    lines = [
        (
            f"On the servers' core without a server a request would wait p99 {still[0]:.2f} ms, "
            f"p99.9 {still[1]:.2f} ms for other processes."
        ),
        "",
        "| family | server | offered/s | p50 ms | p99 ms | p99.9 ms | not 2xx |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {p['family']} | {p['server']}, {p['form']} | {p['rate']:,.0f} | {p['p50_ms']:.2f} "
            f"| {p['p99_ms']:.2f} | {p['p999_ms']:.2f} | {p['bad']} |"
            for p in found["points"]
        ),
        "",
        (
            "| overload, 3 x capacity | capacity/s | sent/s | good/s | share | accepted p99 ms "
            "| refused | refused p99 ms | statuses |"
        ),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for o in found["overload"]:
        refused = "" if o["refused_p99_ms"] is None else f"{o['refused_p99_ms']:.1f}"
        lines.append(
            f"| {o['form']} | {o['capacity']:,.0f} | {o['sent']:,.0f} | {o['goodput']:,.0f} "
            f"| {o['goodput_share']:.2f} | {o['accepted_p99_ms'] or 0:.1f} | {o['refused']} "
            f"| {refused} | {o['statuses']} |"
        )
    return "\n".join(lines) + "\n"


def picture(found: dict[str, Any], path: Path) -> None:
    """One panel a family: p50, p99 and p99.9 against the offered rate, both logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(FAMILIES), figsize=(11, 4.6), layout="constrained", sharey=True
    )
    styles = (("p50_ms", ":"), ("p99_ms", "-"), ("p999_ms", "--"))
    for panel, family in zip(axes, FAMILIES, strict=True):
        for number, (server, form) in enumerate(FAMILIES[family]):
            mine = [p for p in found["points"] if (p["family"], p["server"]) == (family, server)]
            for key, style in styles:
                label = f"{server}, {form}" if key == "p99_ms" else None
                panel.plot(
                    [p["rate"] for p in mine],
                    [p[key] for p in mine],
                    style,
                    marker="o",
                    markersize=3,
                    color=f"C{number}",
                    label=label,
                    linewidth=2 if key == "p99_ms" else 1,
                )
        panel.set(xscale="log", yscale="log", xlabel="requests offered a second", title=family)
        panel.grid(visible=True, which="major", alpha=0.3)
        panel.legend(fontsize=8)
    axes[0].set_ylabel("latency, ms (dotted p50, solid p99, dashed p99.9)")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency",
        description="Measure latency against offered load, and overload.",
        epilog="example: python -m benchmarks.latency --seconds 10 --out bench",
    )
    parser.add_argument("--seconds", type=float, default=5, help="at each rate (%(default)s)")
    parser.add_argument("--server-cpu", default="0", help="the servers' core (%(default)s)")
    parser.add_argument("--load-cpu", type=int, default=1, help="our own core (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("bench"), help="folder (%(default)s)")
    parser.add_argument("--only-overload", action="store_true", help="leave the peers out")
    chosen = parser.parse_args(argv)
    end_on_sigterm()
    found = measure(chosen.seconds, chosen.server_cpu, chosen.load_cpu, chosen.only_overload)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "latency.json").write_text(json.dumps(found, indent=1) + "\n")
    (chosen.out / "latency.md").write_text(table(found))
    if found["points"]:
        picture(found, chosen.out / "latency.png")
    print(table(found))
    return 1 if any(p["bad"] for p in found["points"]) else 0


if __name__ == "__main__":
    raise SystemExit(main())
