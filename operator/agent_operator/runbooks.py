"""The runbooks of all alerts on the operator's own port, at /runbooks: for alerts on itself, and for policies without a link.

They are pages without scripts and without data of the cluster (`make runbooks`), and go where its metrics go.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

FOLDER = "/runbooks/"

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

TYPES = {".css": "text/css; charset=utf-8", ".html": "text/html; charset=utf-8"}

SAFE = [
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
]


def with_runbooks(metrics: Wsgi) -> Wsgi:
    """`metrics`, and beside it the runbooks, which are read once. No path of a caller reaches the disk."""
    pages = dict(_walk(files("slipway_monitoring") / "runbook_pages", FOLDER))
    return lambda environ, start: _answer(pages, metrics, environ, start)


def _answer(
    pages: Mapping[str, tuple[str, bytes]], metrics: Wsgi, environ: dict[str, Any], start: Callable[..., Any]
) -> Iterable[bytes]:
    path = str(environ["PATH_INFO"])
    if path == FOLDER.rstrip("/"):
        start("308 Permanent Redirect", [("Location", FOLDER), *SAFE])
        return []
    if not path.startswith(FOLDER):
        return metrics(environ, start)
    kind, body = pages.get(path, ("", b""))
    if not kind:
        kind, body = "text/plain; charset=utf-8", b"There is no such runbook: /runbooks/ lists them.\n"
    start("200 OK" if path in pages else "404 Not Found", [("Content-Type", kind), *SAFE])
    return [body]


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, tuple[str, bytes]]]:
    for entry in folder.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            yield from _walk(entry, f"{name}/")
        else:
            suffix = name[name.rfind(".") :]
            path = name.removesuffix("index.html").replace(".html", ".md")
            yield path, (TYPES[suffix], entry.read_bytes())
