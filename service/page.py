"""The page at `/`: static files, read once, served under a policy that lets nothing else in."""

from __future__ import annotations

from pathlib import Path

from service.http import Header, Problem, Request, Response

FOLDER = Path(__file__).parent / "ui"
KINDS = {".html": b"text/html; charset=utf-8", ".css": b"text/css", ".js": b"text/javascript"}
# Nothing from another origin, nothing inline; images also as data: and blob: (what was dropped).
POLICY: Header = (
    b"content-security-policy",
    b"; ".join(
        (
            b"default-src 'none'",
            b"script-src 'self'",
            b"style-src 'self'",
            b"connect-src 'self'",
            b"img-src 'self' data: blob:",
            b"base-uri 'none'",
            b"form-action 'none'",
            b"frame-ancestors 'none'",
        )
    ),
)


class Page:
    """The files of service/ui, by name."""

    def __init__(self) -> None:
        self._files = {
            path.name: (path.read_bytes(), KINDS[path.suffix]) for path in FOLDER.iterdir()
        }

    async def index(self, request: Request) -> Response:
        """The page itself."""
        return self._file("index.html")

    async def file(self, request: Request, name: str) -> Response:
        """A file of it. Raises Problem 404."""
        return self._file(name)

    def _file(self, name: str) -> Response:
        if name not in self._files:
            raise Problem(404, "there is no such file")
        data, kind = self._files[name]
        return Response(
            200,
            data,
            [
                (b"content-type", kind),
                (b"cache-control", b"no-cache"),
                (b"x-content-type-options", b"nosniff"),
                POLICY,
            ],
        )
