"""The page that compares all models: tables, pictures, and what the numbers say."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from training import charts
from training.changes import changes
from training.compare import Row
from training.duel import LEVEL, duel
from training.evidence import Evidence
from training.footprint import MANY
from training.recipes import RECIPES

MARGIN = 0.007  # below the reported figure that a reproduction may be
SMALL = 0.01  # of accuracy, that a much smaller model may cost to be worth a word
SAME = 1.05  # times as long, up to which two times are taken for the same
FASTER = 1.2  # times as fast, from which on it is worth a word

# Why a reproduction cannot be expected to give the very figure that was reported.
REASONS = {
    "cifar10-lenet": "The original took the best of six settings by the test images; here the "
    "validation images chose, and the pixels are standardised.",
    "cifar10-lenet3": "The pixels are standardised.",
    "fashion-tree": "Held to a depth of 16 and at least 5 images in a leaf.",
    "fashion-mobilenetv3": "The original's was a second ResNet-34 by mistake.",
}

HEADER = """# The models

Written by `make models-page` (`vitrine-train compare`). Accuracy is of the 10,000 test images
through the code that serves, with its 95 % Wilson interval. Times are the shortest of many, in
several rounds, through ONNX Runtime, on one thread of one machine, and differ on yours; grey is a
model that a more accurate one matches in time, to 5 %. Memory is the most that a process held which
serves this model alone, Python and ONNX Runtime included. A model's name leads to its card.
`vitrine-train run NAME` makes any of them again, also those that the release, within its 40 MB,
leaves out.
"""

UNPAIRED = "intervals, where the answers to single images are not known"
OLD = "†"  # after the name of a model that was not at hand when the others were measured

COLUMNS = (
    *("model", "accuracy, %", "interval", "errors", "1 image, ms", f"of {MANY}, ms each"),
    *("memory, MB", "parameters", "MMAC", "file, kB", "trained in, s", "worst class (F1)"),
)


def write(rows: list[Row], evidence: Evidence, out: Path) -> None:
    """`out` (Markdown) and, beside it, two pictures for each task."""
    out.parent.mkdir(parents=True, exist_ok=True)
    parts = [HEADER]
    latest = max((row.measured for row in rows), default="")
    if any(row.measured < latest for row in rows):
        parts.append(
            f"Measured on {latest}; {OLD}: before, and not at hand on that day, so its times may "
            "be another machine's.\n"
        )
    for task in dict.fromkeys(row.task for row in rows):
        mine = [row for row in rows if row.task == task]
        scatter = out.with_name(f"{out.stem}-{task}.png")
        bars = out.with_name(f"{out.stem}-{task}-bars.png")
        scatter.write_bytes(charts.trade_off(points(mine)))
        bars.write_bytes(charts.bars([row.name for row in mine], panels(mine), front(mine)))
        parts.append(
            f"## {task.capitalize()}\n\n{verdict(mine)}\n\n{table(mine, latest)}\n\n"
            f"![Accuracy against time for one image]({scatter.name})\n\n"
            f"![Each figure of each model]({bars.name})\n"
        )
    parts += [section for section in (reproduced(rows, evidence), spreads(evidence)) if section]
    if waiting := unfinished(rows, evidence):
        parts.append(waiting)
    out.write_text("\n".join(parts), encoding="utf-8")


def markdown(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table."""
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table(rows: list[Row], latest: str) -> str:
    """The figures of one task's models; memory of the GPU in training where one was used."""
    gpu = any(row.gpu_mb for row in rows)
    lines = []
    for row in rows:
        low, high = row.interval
        label, f1 = row.worst_class
        cells = [
            f"[`{row.name}`](cards/{row.name}.md){OLD if row.measured < latest else ''}",
            f"{row.accuracy * 100:.2f}",
            f"{low * 100:.2f} to {high * 100:.2f}",
            f"{row.count - row.correct:,}",
            f"{row.cost.one_ms:.3f}",
            f"{row.cost.many_ms:.4f}",
            f"{row.cost.rss_mb:.0f}",
            f"{row.parameters:,}",
            f"{row.macs / 1e6:.2f}",
            f"{row.bytes / 1000:,.0f}",
            f"{row.trained_s:,.0f}",
            f"{label} ({f1:.3f})",
        ]
        if gpu:
            cells.append(f"{row.gpu_mb:,}")
        lines.append(tuple(cells))
    return markdown((*COLUMNS, "GPU memory in training, MB") if gpu else COLUMNS, lines)


def front(rows: list[Row]) -> set[str]:
    """The names of those that no other beats in accuracy and, measured noise aside, in time."""

    def beaten(row: Row) -> bool:
        return any(
            (r.accuracy >= row.accuracy and r.cost.one_ms < row.cost.one_ms)
            or (r.accuracy > row.accuracy and r.cost.one_ms <= row.cost.one_ms * SAME)
            for r in rows
        )

    return {row.name for row in rows if not beaten(row)}


def points(rows: list[Row]) -> list[charts.Point]:
    best = front(rows)
    return [charts.Point(r.name, r.accuracy, r.cost.one_ms, r.name in best) for r in rows]


def panels(rows: list[Row]) -> list[charts.Panel]:
    """The bars, each figure as text too."""

    def panel(title: str, values: list[float], form: str) -> charts.Panel:
        return charts.Panel(title, [*values], [format(value, form) for value in values])

    accuracies = [row.accuracy for row in rows]
    return [
        charts.Panel(
            "accuracy, 95 % interval",
            [*accuracies],
            [f"{value * 100:.2f}" for value in accuracies],
            [row.interval for row in rows],
        ),
        panel("1 image, ms", [row.cost.one_ms for row in rows], ".3g"),
        panel(f"of {MANY}, ms each", [row.cost.many_ms for row in rows], ".3g"),
        panel("memory, MB", [row.cost.rss_mb for row in rows], ",.0f"),
        panel("parameters", [row.parameters for row in rows], ",.0f"),
        panel("million multiply-accumulates", [row.macs / 1e6 for row in rows], ".3g"),
        panel("file, kB", [row.bytes / 1000 for row in rows], ",.0f"),
        panel("trained in, s", [row.trained_s for row in rows], ",.0f"),
    ]


def verdict(rows: list[Row]) -> str:
    """What the numbers say of one task's models."""
    best = max(rows, key=lambda row: row.accuracy)
    errors = best.count - best.correct
    said = [f"`{best.name}` is the most accurate, {best.accuracy:.2%} ({errors:,} errors)."]
    equals, how = equal_to(best, rows)
    if equals:
        said.append(f"{listed(equals)} {how}.")
    elif len(rows) > 1:
        said.append(f"Every other makes more errors than chance would explain ({how}).")
    quick = min([best, *equals], key=lambda row: row.cost.one_ms)
    times = best.cost.one_ms / quick.cost.one_ms
    if times >= FASTER:
        said.append(f"Of these `{quick.name}` answers {times:.1f} times as fast.")
    near = [row for row in rows if best.accuracy - row.accuracy <= SMALL]
    small = min(near, key=lambda row: row.parameters)
    if small is not best:
        said.append(
            f"`{small.name}` has {small.parameters / best.parameters:.0%} of its "
            f"parameters and loses {(best.accuracy - small.accuracy) * 100:.2f} points."
        )
    names = front(rows)
    said.append(
        "No other is as accurate in less time as: "
        + listed([row for row in rows if row.name in names])
        + "."
    )
    hardest, count = Counter(row.worst_class[0] for row in rows).most_common(1)[0]
    said.append(f"The hardest class is {hardest}: the worst of {count} of {len(rows)} models.")
    said += [f"`{row.stands_for}` stands for `{row.name}`." for row in rows if row.stands_for]
    return " ".join(said)


def equal_to(best: Row, rows: list[Row]) -> tuple[list[Row], str]:
    """Those that the test images do not tell from the best, and by what means."""
    others = [row for row in rows if row is not best]
    chances = {
        row.name: duel((best.name, row.name), (best.right, row.right)).chance
        for row in others
        if best.right is not None and row.right is not None
    }
    found = [
        row
        for row in others
        if (
            chances[row.name] >= LEVEL
            if row.name in chances
            else row.interval[1] >= best.interval[0]
        )
    ]
    told = found or others
    paired = [chances[row.name] for row in told if row.name in chances]
    unpaired = [UNPAIRED] if len(paired) < len(told) else []
    if not found:
        tests = [f"paired tests, p at most {max(paired):.2g}"] if paired else []
        return [], "; ".join(tests + unpaired)
    tests = [f"a paired test (McNemar, p at least {min(paired):.2f})"] if paired else []
    return found, f"cannot be told from it by {' or by '.join(tests + unpaired)}"


def listed(rows: list[Row]) -> str:
    names = [f"`{row.name}`" for row in rows]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def reproduced(rows: list[Row], evidence: Evidence) -> str:
    """Our figures beside those of the experiments that recipes reproduce."""
    found = {row.name: row for row in rows}
    lines, reached = [], 0
    for name, recipe in RECIPES.items():
        row, seeds = found.get(name), list(evidence.seeds.get(name, {}).values())
        accuracies = seeds or ([row.accuracy] if row else [])
        if recipe.reported is None or not accuracies:
            continue
        away = (statistics.mean(accuracies) - recipe.reported) * 100
        reached += away >= -MARGIN * 100
        spread = evidence.spread(name)
        lines.append(
            (
                f"`{name}`",
                f"{recipe.reported * 100:.1f}",
                f"{row.accuracy * 100:.2f}" if row else "",
                f"{spread.mean * 100:.2f} ± {spread.deviation * 100:.2f}" if spread else "",
                f"{away:+.2f}",
                reason(name, recipe.reported, row),
            )
        )
    if not lines:
        return ""
    columns = ("recipe", "reported, %", "live, %", "mean of seeds, %", "difference", "why")
    return (
        "## Beside the experiments they reproduce\n\n"
        f"{reached} of {len(lines)} reach the reported figure less {MARGIN * 100:.1f} points, the "
        "mean of several seeds counting where there is one.\n\n" + markdown(columns, lines) + "\n"
    )


def reason(name: str, reported: float, row: Row | None) -> str:
    """Why a figure differs from the reported one, as far as that is known."""
    said = REASONS.get(name, "")
    if row is not None:
        low, high = row.interval
        if low <= reported <= high:
            said = f"{said} The reported figure lies within the live model's interval.".strip()
    return said


def spreads(evidence: Evidence) -> str:
    """Means over the seeds."""
    lines = [
        (
            f"`{name}`",
            f"{spread.count}",
            f"{spread.mean * 100:.2f}",
            f"{spread.deviation * 100:.2f}",
            f"{spread.low * 100:.2f} to {spread.high * 100:.2f}",
        )
        for name in RECIPES
        if (spread := evidence.spread(name))
    ]
    if not lines:
        return ""
    columns = ("recipe", "seeds", "mean, %", "standard deviation", "range, %")
    return (
        "## Over several seeds\n\nTest accuracy of runs that differ in their seed alone "
        "(`vitrine-train run NAME --seed N`).\n\n" + markdown(columns, lines) + "\n"
    )


def unfinished(rows: list[Row], evidence: Evidence) -> str:
    """Recipes without a model here, and models that were trained otherwise than by their recipe."""
    live = {row.name for row in rows}
    lines = []
    for name, recipe in RECIPES.items():
        if name in live:
            continue
        if seeds := evidence.seeds.get(name):
            best = max(seeds.values())
            lines.append(f"- `{name}`: trained ({best:.2%}), but not among the models here.")
        else:
            lines.append(f"- `{name}`: {recipe.note or 'not trained yet.'}")
    lines += [
        f"- `{row.name}`: {', '.join(found)}." for row in rows if (found := changes(row.settings))
    ]
    if not lines:
        return ""
    title = "## Not here, not trained to the end, or otherwise than the recipe says"
    return f"{title}\n\n" + "\n".join(lines) + "\n"
