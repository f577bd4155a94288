"""What a comparison found, as a record, a table and a picture."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import onnxruntime

if TYPE_CHECKING:
    from benchmarks.serving import Row

OURS = "Vitrine"
# Which ratios matter: our form, the peer, the peer's form, what we ask of ourselves.
TARGETS = (
    ("PNG", "BentoML", "PNG (multipart)", 9.0),
    ("PNG", "BentoML, tuned", "PNG", 2.5),
    ("PNG", "LitServe", "PNG (multipart)", 7.0),
    ("V2 JSON", "MLServer", "V2 JSON", 3.5),
    ("V2 binary", "Triton", "V2 binary", 1.1),
    ("V2 binary x32", "Triton", "V2 binary x32", 1.1),
)
CEILINGS = (("PNG", "png", 0.58), ("V2 binary x32", "tensor", 0.90))


def record(
    rows: list[Row],
    ceilings: list[dict[str, float]],
    left_out: dict[str, str],
    *,
    images: str,
    seconds: float,
    gpu: str,
) -> dict[str, Any]:
    """Everything measured, ready for JSON; rates are of requests a second."""
    at_32 = {(row.server, row.form): row for row in rows if row.connections > 1}
    ratios = []
    for form, peer, peer_form, wanted in TARGETS:
        ours, theirs = at_32.get((OURS, form)), at_32.get((peer, peer_form))
        if ours and theirs:
            each = [a.rate / b.rate for a, b in zip(ours.runs, theirs.runs, strict=True)]
            ratios.append(_ratio(f"{form} / {peer}", each, wanted))
    for form, key, wanted in CEILINGS:
        ours = at_32.get((OURS, form))
        if ours:
            each = [
                run.rate * ours.rows / c[key] for run, c in zip(ours.runs, ceilings, strict=True)
            ]
            ratios.append(_ratio(f"{form} / in-process ceiling", each, wanted))
    return {
        "images": images,
        "seconds": seconds,
        "rounds": len(ceilings),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "machine": cpu_name(),
        "ceilings": {
            key: _spread([c[key] for c in ceilings]) for key in ("png", "tensor") if ceilings
        },
        "rows": [_row(row) for row in rows],
        "ratios": ratios,
        "cuda": gpu,
        "left_out": left_out,
        "bad": sum(run.bad + run.lost for row in rows for run in row.runs),
    }


def write(found: dict[str, Any], folder: Path) -> str:
    """serving.json, serving.md and serving.png in `folder`; returns the table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "serving.json").write_text(json.dumps(found, indent=1) + "\n")
    text = table(found)
    (folder / "serving.md").write_text(text)
    picture(found, folder / "serving.png")
    return text


def table(found: dict[str, Any]) -> str:
    """The record as Markdown."""
    lines = [
        (
            f"One core for the server, {found['rounds']} rounds of {found['seconds']:g} s, "
            f"{found['images']}; {found['machine']}, Python {found['python']}, "
            f"ONNX Runtime {found['onnxruntime']}."
        ),
        "",
        (
            "| server | request | connections | requests/s (lowest to highest) | p50 ms | p99 ms "
            "| CPU us | not 2xx |"
        ),
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key, name in (("png", "decode + model"), ("tensor", "model alone, batch 32")):
        if key in found["ceilings"]:
            c = found["ceilings"][key]
            spread = f"{c['median']:,.0f} images/s ({c['low']:,.0f} to {c['high']:,.0f})"
            lines.append(f"| in process: {name} | none | | {spread} | | | | |")
    for row in sorted(found["rows"], key=lambda row: -row["connections"]):
        rate = row["rate"]
        lines.append(
            f"| {row['server']} | {row['form']} | {row['connections']} | {rate['median']:,.0f} "
            f"({rate['low']:,.0f} to {rate['high']:,.0f}) | {row['p50_ms']:.2f} | "
            f"{row['p99_ms']:.2f} | {row['cpu_us']:.0f} | {row['bad']} |"
        )
    lines.append(f"| Vitrine on CUDA | | | {found['cuda']} | | | | |")
    lines += ["", "| ratio | median (lowest to highest) | wanted | |", "| --- | --- | --- | --- |"]
    for ratio in found["ratios"]:
        lines.append(
            f"| {ratio['name']} | {ratio['median']:.2f} ({ratio['low']:.2f} to "
            f"{ratio['high']:.2f}) | {ratio['wanted']:g} | {'yes' if ratio['met'] else 'no'} |"
        )
    lines += ["", *(f"Left out: {name}: {why}" for name, why in found["left_out"].items())]
    return "\n".join(lines) + "\n"


def picture(found: dict[str, Any], path: Path) -> None:
    """Bars of images a second at 32 connections, with the spread over the rounds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in found["rows"] if row["connections"] > 1]
    if not rows:
        return
    rows.sort(key=lambda row: row["rate"]["median"] * row["rows"])
    names = [f"{row['server']}: {row['form']}" for row in rows]
    rates = [row["rate"]["median"] * row["rows"] for row in rows]
    below = [(row["rate"]["median"] - row["rate"]["low"]) * row["rows"] for row in rows]
    above = [(row["rate"]["high"] - row["rate"]["median"]) * row["rows"] for row in rows]
    colours = ["#c2410c" if row["server"] == OURS else "#94a3b8" for row in rows]
    figure, axes = pyplot.subplots(figsize=(9, 0.36 * len(rows) + 1.2), layout="constrained")
    bars = axes.barh(names, rates, xerr=[below, above], color=colours, ecolor="#334155")
    axes.bar_label(bars, [f"{rate:,.0f}" for rate in rates], padding=8, fontsize=8)
    axes.set_xlabel("images a second on one core, 32 connections (bars: lowest to highest)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _row(row: Row) -> dict[str, Any]:
    return {
        "server": row.server,
        "form": row.form,
        "rows": row.rows,
        "connections": row.connections,
        "rate": _spread([run.rate for run in row.runs]),
        "p50_ms": median(run.p50_ms for run in row.runs),
        "p99_ms": median(run.p99_ms for run in row.runs),
        "cpu_us": median(row.cpu_us),
        "bad": sum(run.bad + run.lost for run in row.runs),
    }


def _ratio(name: str, each: list[float], wanted: float) -> dict[str, Any]:
    spread = _spread(each)
    return {"name": name, **spread, "wanted": wanted, "met": spread["median"] >= wanted}


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "low": min(values), "high": max(values)}


def cpu_name() -> str:
    """The processor's name, where Linux tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return f"{len(names)} cores of {names[0]}" if names else platform.machine()
