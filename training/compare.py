"""Every published model side by side: figures measured here and now, and what follows from them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from artifacts.manifest import MODEL_FILE, Manifest
from artifacts.model import Model, load
from artifacts.store import Store
from training import charts
from training.recipes import RECIPES

REPEATS = 400  # predictions of one image that the shortest is taken of


@dataclass(frozen=True)
class Row:
    """One model: its manifest, and what was measured of it on this machine."""

    manifest: Manifest
    one_ms: float  # time of a prediction of one image
    many_ms: float  # the same per image, 64 at a time
    bytes: int  # of model.onnx

    @property
    def accuracy(self) -> float:
        return float(self.manifest.test["accuracy"])


def compare(store: Store) -> list[Row]:
    """All live models, by task and then by accuracy. Raises BadArtifact, NotFound."""
    rows = []
    for name, live in store.catalog().live.items():
        if live.version is None:
            continue
        folder = store.folder(name, live.version)
        model = load(folder, execution_provider="cpu", threads=1)
        one, many = shortest_ms(model, 1, REPEATS), shortest_ms(model, 64, REPEATS // 10) / 64
        rows.append(Row(model.manifest, one, many, (folder / MODEL_FILE).stat().st_size))
    return sorted(rows, key=lambda row: (row.manifest.task, -row.accuracy))


def shortest_ms(model: Model, count: int, repeats: int) -> float:
    """How long `predict` takes for `count` images, in milliseconds, when nothing disturbs it.

    The shortest of many, as `timeit` advises: whatever else the machine does only adds to it.
    """
    shape = (count, *model.manifest.input.shape)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        model.predict(pixels)
        times.append(time.perf_counter() - start)
    return min(times) * 1000


def write(rows: list[Row], out: Path) -> None:
    """`out` (Markdown) and, beside it, a picture for each task."""
    out.parent.mkdir(parents=True, exist_ok=True)
    parts = [HEADER]
    for task in dict.fromkeys(row.manifest.task for row in rows):
        mine = [row for row in rows if row.manifest.task == task]
        picture = out.with_name(f"{out.stem}-{task}.png")
        picture.write_bytes(charts.trade_off(points(mine)))
        parts.append(
            f"## {task.capitalize()}\n\n{table(mine)}\n\n{verdict(mine)}\n\n"
            f"![Accuracy against time for one image]({picture.name})\n"
        )
    if waiting := [name for name in RECIPES if name not in {row.manifest.name for row in rows}]:
        parts.append("## Not trained yet\n\n" + ", ".join(f"`{name}`" for name in waiting) + ".\n")
    out.write_text("\n".join(parts), encoding="utf-8")


HEADER = """# The models

Written by `vitrine-train compare`. Accuracy is of the 10,000 test images through the code that
serves, with its 95 % Wilson interval; *reported* is the figure of the experiment that a recipe
reproduces. Times are the shortest of many, on one thread of one machine, and differ on yours.
One seed each. `vitrine-train run NAME` makes any of them again.
"""


COLUMNS = (
    *("model", "accuracy, %", "interval", "reported", "1 image, ms", "of 64, ms each"),
    *("parameters", "MMAC", "file, kB", "trained in, s", "worst class (F1)"),
)


def table(rows: list[Row]) -> str:
    """A Markdown table."""
    lines = [
        "| " + " | ".join(COLUMNS) + " |",
        "|" + " --- |" * len(COLUMNS),
    ]
    for row in rows:
        manifest = row.manifest
        low, high = manifest.test["interval"]
        recipe = RECIPES.get(manifest.name)
        reported = f"{recipe.reported * 100:.1f}" if recipe and recipe.reported else ""
        label, f1 = worst_class(manifest)
        lines.append(
            f"| `{manifest.name}` | {row.accuracy * 100:.2f} | {low * 100:.2f} to {high * 100:.2f} "
            f"| {reported} | {row.one_ms:.3f} | {row.many_ms:.4f} | {manifest.parameters:,} "
            f"| {manifest.macs / 1e6:.2f} | {row.bytes / 1000:,.0f} "
            f"| {manifest.provenance.get('duration_s', 0):,.0f} | {label} ({f1:.3f}) |"
        )
    return "\n".join(lines)


def points(rows: list[Row]) -> list[charts.Point]:
    """The rows as points of a picture, with those that no other beats in both marked."""

    def beaten(row: Row) -> bool:
        return any(r.accuracy >= row.accuracy and r.one_ms < row.one_ms for r in rows)

    return [charts.Point(r.manifest.name, r.accuracy, r.one_ms, not beaten(r)) for r in rows]


def worst_class(manifest: Manifest) -> tuple[str, float]:
    """The class with the lowest F1, and that F1."""
    worst = min(manifest.test["classes"], key=lambda entry: float(entry["f1"]))
    return str(worst["label"]), float(worst["f1"])


def verdict(rows: list[Row]) -> str:
    """What the numbers say, in two sentences."""
    best = max(rows, key=lambda row: row.accuracy)
    equals = [
        r for r in rows if r.manifest.test["interval"][1] >= best.manifest.test["interval"][0]
    ]
    quick = min(equals, key=lambda row: row.one_ms)
    text = f"`{best.manifest.name}` is the most accurate, {best.accuracy:.2%}."
    if quick is not best:
        text += (
            f" `{quick.manifest.name}` answers {best.one_ms / quick.one_ms:.1f} times as fast with "
            f"{quick.accuracy:.2%}; the intervals overlap, so this test does not tell them apart."
        )
    elif len(rows) > 1:
        text += " No faster model comes within its interval."
    return text
