"""`/openapi.json`, and `/docs`: the same as one page of HTML, without script or network."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Any

import orjson

from service.http import JSON, Header, Request, Response
from service.openapi import document

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #777; --accent: #0b7a7a; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; }
h1 { color: var(--accent); } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
summary { cursor: pointer; padding: .4rem 0; overflow-wrap: anywhere; }
details { border-bottom: 1px solid var(--line); }
details > :not(summary) { margin-left: 1.25rem; }
code, pre { font: .9em/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid var(--line); border-radius: 6px; }
b { color: var(--accent); } span { color: var(--soft); } dt { font-weight: 600; }
"""
_POLICY = "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; frame-ancestors 'none'"
_CACHE: Header = (b"cache-control", b"no-cache")


class Docs:
    """The handlers; everything is written once."""

    def __init__(self) -> None:
        whole = document()
        self._json = orjson.dumps(whole)
        self._page = page(whole)
        digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
        self._policy: Header = (b"content-security-policy", _POLICY.format(digest).encode())

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI document."""
        return Response(200, self._json, [JSON, _CACHE])

    async def docs(self, request: Request) -> Response:
        """The page."""
        kind: Header = (b"content-type", b"text/html; charset=utf-8")
        return Response(200, self._page, [kind, _CACHE, self._policy])


def page(whole: dict[str, Any]) -> bytes:
    """An OpenAPI document as a page of HTML."""
    info = whole["info"]
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])} API</h1><p>{escape(info['summary'])}</p>",
        f"<p>{escape(info['description'])}</p>",
        f"<p>Version {escape(info['version'])}: as <a href='/openapi.json'>openapi.json</a>.</p>",
    ]
    for tag in whole["tags"]:
        parts.append(f"<h2>{escape(tag['name'])}</h2><p>{escape(tag['description'])}</p>")
        for path, methods in whole["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    parts.append(_operation(method, path, operation))
    parts.append("<h2>Schemas</h2>")
    for name, schema in whole["components"]["schemas"].items():
        parts.append(
            f'<details id="{escape(name)}"><summary>{escape(name)}</summary>'
            f"<pre>{_pretty(schema)}</pre></details>"
        )
    return "".join(parts).encode()


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = []
    for given in operation.get("parameters", ()):
        what = f"{given['name']} <span>{given['in']}</span>"
        about = f"{escape(given.get('description', ''))} <code>{_inline(given['schema'])}</code>"
        rows.append(f"<dt>{what}</dt><dd>{about}</dd>")
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        rows.append(f"<dt>body</dt><dd>{escape(kind)} <code>{_inline(content['schema'])}</code>")
    ok = operation["responses"]["200"]
    rows.append(f"<dt>200</dt><dd>{escape(ok['description'])}")
    rows += [
        f"<br>{escape(kind)} <code>{_inline(content['schema'])}</code>"
        for kind, content in ok.get("content", {}).items()
    ]
    others = [status for status in operation["responses"] if status != "200"]
    if others:
        rows.append(f"<dt>or</dt><dd>{', '.join(others)}</dd>")
    about = operation.get("description", "")
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> "
        f"<span>{escape(operation['summary'])}</span></summary>"
        f"{f'<p>{escape(about)}</p>' if about else ''}<dl>{''.join(rows)}</dl></details>"
    )


def _inline(schema: dict[str, Any]) -> str:
    """A schema in one line; a reference as a link to it."""
    name = schema.get("$ref", "").rpartition("/")[2]
    if name:
        return f'<a href="#{escape(name)}">{escape(name)}</a>'
    return escape(orjson.dumps(schema).decode())


def _pretty(schema: dict[str, Any]) -> str:
    return escape(orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode())
