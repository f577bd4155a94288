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
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import asking, forms, images, openloop, reference, stillness, wrk
from benchmarks.servers import OURS, SERVERS, Place, Running, end_on_sigterm, free_port
from benchmarks.serving import say

# Who is compared with whom: (server, form), ours first.
FAMILIES: dict[str, tuple[tuple[str, str], ...]] = {
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


def measure(
    seconds: float, server_cpu: str, load_cpu: int, only_overload: bool = False
) -> dict[str, Any]:
    """Every family at every rate, and our overload."""
    still = stillness.measure(server_cpu)
    say(f"with no server a request would wait p99 {still[0]:.2f} p99.9 {still[1]:.2f} ms")
    os.sched_setaffinity(0, {load_cpu})
    shown = images.load()
    model = reference.build()
    wanted = reference.session(model).run(["probabilities"], {"images": shown.pixels})[0]
    points: list[dict[str, Any]] = []
    capacities: dict[str, float] = {}
    overload: list[dict[str, Any]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vitrine-bench-")))
        path = folder / "model.onnx"
        path.write_bytes(model)
        running: dict[str, Running] = {}
        asked: dict[tuple[str, str], list[bytes]] = {}
        for server in SERVERS:
            names = {form for f in FAMILIES.values() for s, form in f if s == server.name}
            if server.name == OURS:
                names |= set(OVERLOAD_FORMS)
            if not names or not server.installed() or (only_overload and server.name != OURS):
                continue
            place = Place(port=free_port(), folder=folder / str(len(running)), model=path)
            one = Running(server, place, server_cpu)
            stack.callback(one.stop)
            one.wait_ready()
            running[server.name] = one
            for form in server.forms:
                if form.name not in names:
                    continue
                requests = form.requests(shown)
                asking.check(place.port, form, requests, wanted)
                asked[server.name, form.name] = requests
                file = place.folder / "requests"
                forms.write(requests, file)
                for length in (1.0, CAPACITY_S):
                    capacity = wrk.run(
                        place.port, file, connections=32, seconds=length, cpu=load_cpu
                    ).rate
                capacities[f"{server.name}: {form.name}"] = capacity
                say(f"{server.name}, {form.name}: {capacity:,.0f} a second at most")
            one.pause()
        for family, members in FAMILIES.items() if not only_overload else ():
            own = capacities[f"{OURS}: {members[0][1]}"]
            theirs = [capacities.get(f"{s}: {f}", 0.0) for s, f in members[1:]]
            rates = sorted({0.7 * c for c in theirs if c} | {share * own for share in SHARES})
            for rate in rates:
                for name, form_name in members:
                    capacity = capacities.get(f"{name}: {form_name}", 0.0)
                    if rate > SUSTAINABLE * capacity:
                        continue
                    one = running[name]
                    one.resume()
                    stream = openloop.Stream(
                        name=form_name, requests=asked[name, form_name], rate=rate
                    )
                    openloop.run(one.place.port, [stream], seconds=1)
                    outcome = openloop.run(one.place.port, [stream], seconds=seconds)
                    one.pause()
                    points.append(_point(family, name, rate, outcome, form_name))
        ours = running[OURS]
        ours.resume()
        for form_name in OVERLOAD_FORMS:
            capacity = capacities[f"{OURS}: {form_name}"]
            stream = openloop.Stream(
                name=form_name, requests=asked[OURS, form_name], rate=OVERLOAD * capacity
            )
            outcome = openloop.run(
                ours.place.port, [stream], seconds=seconds, connections=OVERLOAD_CONNECTIONS
            )
            overload.append(_overload(form_name, capacity, outcome))
    return {
        "stillness_ms": still,
        "capacities": capacities,
        "points": points,
        "overload": overload,
    }


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
