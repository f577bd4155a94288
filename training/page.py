"""One HTML page from sections of text, tables and pictures: self-contained, for light and dark."""

from __future__ import annotations

import base64
import html
import re
from dataclasses import dataclass

STYLE = """
:root{color-scheme:light dark;--ink:#1b1b1f;--paper:#fff;--line:#d5d8de;--soft:#5c6370}
@media (prefers-color-scheme:dark){
:root{--ink:#e8e8ea;--paper:#141519;--line:#3a3d45;--soft:#a4a9b3}
.chart img{filter:invert(1) hue-rotate(180deg) brightness(1.15)}.chart{background:#000!important}}
body{font:16px/1.55 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:72rem;margin:2rem auto;padding:0 1rem}
h1 small{font-size:.5em;color:var(--soft);font-weight:normal}
h2{margin-top:2.5rem;border-top:1px solid var(--line);padding-top:1rem}
nav{columns:3 14rem;font-size:.9rem}nav a{display:block;color:inherit}
p{max-width:46rem}.soft{color:var(--soft)}
figure{margin:1rem 0;padding:.6rem;background:#fff;border-radius:.4rem;overflow-x:auto;
display:inline-block;max-width:100%;box-sizing:border-box;vertical-align:top}
figure img{max-width:100%;display:block}figcaption{font-size:.85rem;color:#444}
.wrap{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.2rem .8rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
td:first-child,th:first-child,td.text,th.text{text-align:left}
pre{overflow-x:auto;font-size:.85rem}
"""


@dataclass(frozen=True)
class Picture:
    """A PNG; `chart` when dark pages may show it with its colours turned about."""

    name: str  # of its file, without .png
    about: str  # for those who cannot see it
    png: bytes
    chart: bool = True


@dataclass(frozen=True)
class Table:
    """Cells as text; columns whose cells are words are aligned to the left."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: bool = False  # shown when asked for


@dataclass(frozen=True)
class Section:
    """A heading, a sentence or two, and what there is to see."""

    title: str
    text: str = ""
    table: Table | None = None
    pictures: tuple[Picture, ...] = ()
    code: str = ""


def page(title: str, subtitle: str, sections: list[Section]) -> str:
    """The whole page; all text is escaped here."""
    links = "".join(f'<a href="#{slug(s.title)}">{html.escape(s.title)}</a>' for s in sections)
    body = "".join(rendered(section) for section in sections)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
        f"<h1>{html.escape(title)} <small>{html.escape(subtitle)}</small></h1>"
        f"<nav>{links}</nav>{body}</html>\n"
    )


def rendered(section: Section) -> str:
    parts = [f'<section id="{slug(section.title)}"><h2>{html.escape(section.title)}</h2>']
    parts += [f"<p>{html.escape(text)}</p>" for text in section.text.split("\n") if text]
    parts += [figure(picture) for picture in section.pictures]
    if section.table is not None:
        parts.append(tabled(section.table))
    if section.code:
        parts.append(f"<pre>{html.escape(section.code)}</pre>")
    return "".join((*parts, "</section>"))


def figure(picture: Picture) -> str:
    about = html.escape(picture.about, quote=True)
    source = f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"
    kind = ' class="chart"' if picture.chart else ""
    return f'<figure{kind}><img alt="{about}" src="{source}"></figure>'


def tabled(table: Table) -> str:
    words = [all(not is_number(row[k]) for row in table.rows) for k in range(len(table.columns))]

    def line(cells: tuple[str, ...], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=text' if word else ''}>{html.escape(cell)}</{tag}>"
            for cell, word in zip(cells, words, strict=True)
        )

    rows = "".join(f"<tr>{line(row, 'td')}</tr>" for row in table.rows)
    whole = f'<div class="wrap"><table><tr>{line(table.columns, "th")}</tr>{rows}</table></div>'
    if table.folded:
        return f"<details><summary>{len(table.rows)} lines</summary>{whole}</details>"
    return whole


def is_number(cell: str) -> bool:
    return bool(re.match(r"-?[\d.,]+( |%|$)", cell))


def slug(title: str) -> str:
    """The title as an anchor or a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
