"""A tally as one self-contained HTML page, with the pictures of the most confident mistakes."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape

from artifacts.manifest import Manifest
from service.score.tally import Mistake, Tally, percent

THUMBNAIL = 96  # pixels, the longer side


def page(found: Tally, manifest: Manifest, source: str, read: Callable[[str], bytes | None]) -> str:
    """The page's HTML. `read` gives the bytes of an image by its path in the rows, if it can."""
    low, high = found.interval
    accuracy = found.right / found.labelled if found.labelled else None
    tiles = [
        ("accuracy", percent(accuracy), f"95 %: {percent(low)} to {percent(high)}"),
        ("images", f"{found.labelled:,}", f"{found.unknown:,} more without a known class"),
        ("without an answer", f"{found.failed:,}", f"of {found.rows:,} files"),
        ("calibration error", percent(found.calibration_error), "confidence against accuracy"),
    ]
    promised = manifest.test.get("accuracy")
    head = f"{manifest.name} {manifest.version}"
    if isinstance(promised, float):
        head += f", {promised:.2%} on its own test set"
    return _PAGE.format(
        title=escape(f"{manifest.name} on {source}"),
        head=escape(head),
        tiles="".join(
            f"<div class=tile><b>{escape(value)}</b><span>{escape(name)}</span>"
            f"<small>{escape(note)}</small></div>"
            for name, value, note in tiles
        ),
        decisions=_decisions(found),
        classes=_classes(found),
        confusion=_confusion(found),
        calibration=_calibration(found),
        errors=_errors(found),
        mistakes="".join(_figure(mistake, read) for mistake in found.mistakes)
        or "<p>There are none.</p>",
    )


def _decisions(found: Tally) -> str:
    rows = "".join(
        f"<tr><th>{name}<td>{count:,}<td>{percent(count / max(found.labelled, 1))}"
        f"<td>{percent(right / count if count else None)}"
        for name, (count, right) in found.decisions.items()
    )
    return f"<table><tr><th>decision<th>images<th>share<th>accuracy{rows}</table>"


def _classes(found: Tally) -> str:
    rows = "".join(
        f"<tr><th>{escape(label)}<td>{percent(precision)}<td>{percent(recall)}<td>{percent(f1)}"
        f"<td>{support:,}"
        for label, precision, recall, f1, support in found.per_class()
    )
    return f"<table><tr><th>class<th>precision<th>recall<th>F1<th>images{rows}</table>"


def _confusion(found: Tally) -> str:
    up = " class=up" if max(map(len, found.classes)) > 3 else ""  # long labels stand upright
    head = "".join(f"<th{up}><span>{escape(label)}</span>" for label in found.classes)
    body = []
    for true, (label, row) in enumerate(zip(found.classes, found.confusion, strict=True)):
        support = max(sum(row), 1)
        cells = []
        for index, count in enumerate(row):
            # Mistakes are rare: their square root keeps one in a thousand visible.
            colour = "var(--right)" if index == true else "var(--wrong)"
            alpha = round(100 * (count / support if index == true else (count / support) ** 0.5))
            alpha = 0 if not count else max(8, min(alpha, 85))
            shade = f"background:color-mix(in srgb,{colour} {alpha}%,transparent)"
            cells.append(f'<td style="{shade}">{count or "·"}')
        body.append(f"<tr><th>{escape(label)}{''.join(cells)}")
    return f"<table class=confusion><tr><th>truth \\ answer{head}{''.join(body)}</table>"


def _calibration(found: Tally) -> str:
    """Accuracy over confidence, as SVG: a dot on the diagonal keeps its word."""
    side, margin = 220, 34

    def at(value: float) -> float:
        return margin + value * side

    def up(value: float) -> float:
        return margin / 2 + (1 - value) * side

    dots = []
    for count, right, total in found.bins:
        if count:
            confidence, accuracy = total / count, right / count
            radius = 3 + 9 * (count / found.labelled) ** 0.5
            dots.append(
                f'<circle cx="{at(confidence):.1f}" cy="{up(accuracy):.1f}" r="{radius:.1f}">'
                f"<title>confidence {confidence:.1%}, right {accuracy:.1%} of {count:,.0f}</title>"
                "</circle>"
            )
    lines = "".join(
        f'<line x1="{at(v)}" y1="{up(0)}" x2="{at(v)}" y2="{up(1)}"/>'
        f'<line x1="{at(0)}" y1="{up(v)}" x2="{at(1)}" y2="{up(v)}"/>'
        f'<text x="{at(v)}" y="{up(0) + 14}" text-anchor="middle">{v:.0%}</text>'
        f'<text x="{at(0) - 4}" y="{up(v) + 4}" text-anchor="end">{v:.0%}</text>'
        for v in (0, 0.5, 1)
    )
    return (
        f'<svg viewBox="0 0 {side + 2 * margin} {side + 2 * margin}" role="img" '
        'aria-label="accuracy over confidence">'
        f'{lines}<line class="ideal" x1="{at(0)}" y1="{up(0)}" x2="{at(1)}" y2="{up(1)}"/>'
        f"{''.join(dots)}"
        f'<text x="{at(0.5)}" y="{up(0) + 30}" text-anchor="middle">confidence</text></svg>'
    )


def _errors(found: Tally) -> str:
    if not found.errors:
        return ""
    common = sorted(found.errors.items(), key=lambda item: (-item[1], item[0]))
    rows = "".join(f"<tr><th>{escape(error)}<td>{count:,}" for error, count in common)
    return f"<h2>Without an answer</h2><table><tr><th>reason<th>files{rows}</table>"


def _figure(mistake: Mistake, read: Callable[[str], bytes | None]) -> str:
    data = read(mistake.path)
    picture = thumbnail(data) if data is not None else ""
    image = f'<img alt="" src="{picture}">' if picture else "<div class=gone>no picture</div>"
    return (
        f'<figure title="{escape(mistake.path, quote=True)}">{image}<figcaption>'
        f"<b>{escape(mistake.label)}</b> <span>{mistake.confidence:.1%}</span><br>"
        f"is {escape(mistake.truth)}<br><small>{escape(mistake.decision)}</small>"
        "</figcaption></figure>"
    )


def thumbnail(data: bytes) -> str:
    """An image as the data: URL of a small PNG; "" if it cannot be decoded."""
    from PIL import Image

    from artifacts.images import BadImage, decode

    try:
        picture = Image.fromarray(decode(data))
    except BadImage:
        return ""
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1d2330; --dim: #667085; --line: #d9dee7; --card: #fff;
  --ground: #f5f6f9; --right: #2f8f5b; --wrong: #d2453d; --accent: #3563c9 }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e6e9f0; --dim: #98a2b3; --line: #353c4a;
  --card: #1d222c; --ground: #14181f; --accent: #7ea2f5 }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
  max-width: 1080px; margin: 0 auto; padding: 28px 20px 60px }}
h1 {{ font-size: 24px; margin: 0 }} h2 {{ font-size: 17px; margin: 34px 0 10px }}
p {{ color: var(--dim); margin: 4px 0 18px }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px }}
.tile {{ background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 16px; display: flex; flex-direction: column }}
.tile b {{ font-size: 26px }} small {{ color: var(--dim) }}
.two {{ display: flex; flex-wrap: wrap; gap: 0 72px; align-items: flex-start }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
td, th {{ padding: 3px 12px; text-align: right; border-bottom: 1px solid var(--line);
  font-weight: normal }}
th:first-child {{ text-align: left }} tr:first-child th {{ color: var(--dim) }}
.confusion td, .confusion th + th {{ min-width: 34px; text-align: center; padding: 5px }}
.confusion .up span {{ writing-mode: vertical-rl; transform: rotate(180deg) }}
.scroll {{ overflow-x: auto }}
svg {{ width: 340px; font-size: 11px; fill: var(--dim) }}
svg line {{ stroke: var(--line) }} svg .ideal {{ stroke: var(--dim); stroke-dasharray: 4 }}
svg circle {{ fill: var(--accent); fill-opacity: .75 }}
.gallery {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(112px, 1fr));
  gap: 12px }}
figure {{ margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 8px; font-size: 13px; line-height: 1.35 }}
img, .gone {{ width: 96px; height: 96px; object-fit: contain; image-rendering: pixelated;
  display: block; margin: 0 auto 6px; background: #000; border-radius: 4px }}
.gone {{ color: #aaa; display: grid; place-items: center }}
figcaption b {{ color: var(--wrong) }} figcaption span {{ color: var(--dim) }}
</style>
<h1>{title}</h1>
<p>{head}</p>
<div class="tiles">{tiles}</div>
<div class="two"><div><h2>Classes</h2>{classes}</div>
<div><h2>Decisions</h2>{decisions}<h2>Calibration</h2>{calibration}</div></div>
<h2>Confusion</h2><div class="scroll">{confusion}</div>
{errors}
<h2>Most confident mistakes</h2>
<p>What the model said, how sure it was, and what the image is.</p>
<div class="gallery">{mistakes}</div>
</html>
"""
