"""The chat page: an HTML file, and the scripts, styles and pictures it loads. All need no authentication."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

router = APIRouter(include_in_schema=False)

# The page builds its nodes one by one and never hands a string to the browser's HTML parser. `trusted-types 'none'` makes
# the browser hold it to that: https://www.w3.org/TR/trusted-types/
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
SAFE = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
SAFE_PAGE = SAFE | {
    "Content-Security-Policy": CSP,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}

# Stated here: what `mimetypes` says of .mjs depends on the machine, and with `nosniff` a wrong type is fatal.
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}

REVALIDATE = "no-cache"
FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page, compressed once, with its ETag."""

    body: bytes
    media_type: str
    etag: str


@dataclass(frozen=True, slots=True)
class Site:
    """What the package holds, by path below `static/`. A request only looks a name up: no path of a caller reaches the disk."""

    assets: Mapping[str, Asset]
    version: str
    page: Asset


@cache
def site() -> Site:
    """Read once a process, 220 kB. The version is one of all contents, and stands in the address of each."""
    found = dict(sorted(_walk(files("agent_service") / "static", "")))
    version = hashlib.sha256(b"".join(hashlib.sha256(body).digest() for body in found.values())).hexdigest()[:16]
    html = found.pop("index.html").replace(b'"static/', f'"static/{version}/'.encode())
    return Site({name: _asset(name, body) for name, body in found.items()}, version, _asset("index.html", html))


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            found.extend(_walk(entry, f"{name}/"))
        elif _suffix(name) in MEDIA_TYPES:
            found.append((name, entry.read_bytes()))
    return found


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]


def _asset(name: str, body: bytes) -> Asset:
    return Asset(body, MEDIA_TYPES[_suffix(name)], f'"{hashlib.sha256(body).hexdigest()[:32]}"')


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The chat page."""
    return _answer(request, site().page, SAFE_PAGE | {"Cache-Control": REVALIDATE})


@router.api_route("/static/{version}/{name:path}", methods=["GET", "HEAD"])
async def asset(request: Request, version: str, name: str) -> Response:
    """In a rollout a page of the other version may ask: it gets what is here, to be asked for again."""
    found = site().assets.get(name)
    if found is None:
        raise HTTPException(404, "The chat page has no such file.")
    return _answer(request, found, SAFE | {"Cache-Control": FOR_EVER if version == site().version else REVALIDATE})


def _answer(request: Request, asset: Asset, headers: dict[str, str]) -> Response:
    headers = {**headers, "ETag": asset.etag}
    known = request.headers.get("If-None-Match", "")
    if asset.etag in {tag.strip().removeprefix("W/") for tag in known.split(",")}:
        return Response(status_code=304, headers=headers)
    return Response(asset.body, headers=headers, media_type=asset.media_type)
