"""The pages of the chat and of budgets: HTML, and the scripts, styles and pictures they load. All need no authentication.

What differs by installation stands in the chat page itself, as JSON in a `meta` element: its name, the graphs, examples.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from agent_service.api.deps import ResourcesDep
from agent_service.resources import Resources
from agent_service.setting_types import PICTURE_TYPES
from agent_service.settings import Settings

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

DEFAULT_GRAPH = "agent_service.agents.default.graph:build"
DEFAULT_EXAMPLES = [
    "How does a pod drain on SIGTERM?",
    "What did I spend today, by model?",
    "Save a note: the staging cluster is upgraded on Friday",
]

PAGES = ("index.html", "spend.html", "swagger.html")

SWAGGER = "vendor/swagger-ui"
"""Folder that is nine times the rest, and is served by a service whose API_DOCS is on."""

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
    pages: Mapping[str, Asset]


@cache
def site() -> Site:
    """Read once a process, 220 kB. The version is one of all contents, and stands in the address of each."""
    found = dict(sorted(_walk(files("agent_service") / "static", "")))
    version = hashlib.sha256(b"".join(hashlib.sha256(body).digest() for body in found.values())).hexdigest()[:16]
    pages = {name: found.pop(name).replace(b'"static/', f'"static/{version}/'.encode()) for name in PAGES}
    assets, html = ({name: asset_of(name, body) for name, body in each.items()} for each in (found, pages))
    return Site(assets, version, html)


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        name = prefix + entry.name
        if entry.is_dir() and name != SWAGGER:
            found.extend(_walk(entry, f"{name}/"))
        elif _suffix(name) in MEDIA_TYPES:
            found.append((name, entry.read_bytes()))
    return found


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]


def asset_of(name: str, body: bytes) -> Asset:
    """A file of the package, as it is served."""
    return _with_etag(body, MEDIA_TYPES[_suffix(name)])


def _with_etag(body: bytes, media_type: str) -> Asset:
    return Asset(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def read_logo(settings: Settings) -> Asset | None:
    """The picture of PAGE_LOGO, if there is one."""
    path = settings.page_logo
    return _with_etag(path.read_bytes(), PICTURE_TYPES[path.suffix.lower()]) if path else None


def facts(res: Resources) -> dict[str, object]:
    """What the page is told of this installation. Anyone may read it."""
    settings, graphs = res.settings, res.graphs
    chatting = sorted((each for each in graphs.by_name.values() if each.chats), key=lambda each: each is not graphs.default)
    return {
        "name": settings.page_name,
        "logo": settings.page_logo is not None,
        "welcome": settings.page_welcome,
        "signIn": settings.oidc_issuer is not None,
        "keys": any((settings.api_keys_dir, settings.jwt_secret, settings.jwt_secret_dir, settings.jwt_jwks_url)),
        "developer": "everyone" if settings.developer_mode == "on" else settings.developer_view,
        "files": {"most": settings.max_files, "bytes": settings.max_file_bytes, "together": _bytes_of_files(settings)},
        "graphs": [
            {
                "name": each.name,
                "description": each.description,
                "files": each.takes_files,
                "examples": settings.page_examples.get(each.name, DEFAULT_EXAMPLES if each.target == DEFAULT_GRAPH else []),
            }
            for each in chatting
        ],
    }


ASKED_BYTES = 65_536
"""Of a request that are left for what stands beside its files."""


def _bytes_of_files(settings: Settings) -> int:
    """What the files of one question may have together, for their base64 to fit into a request."""
    return max(0, settings.max_body_bytes - ASKED_BYTES) * 3 // 4


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request, res: ResourcesDep) -> Response:
    """The chat page."""
    told = facts(res)
    html = _told(site().pages["index.html"].body, told)
    html = html.replace(b"<title>Slipway</title>", f"<title>{escape(str(told['name']))}</title>".encode(), 1)
    return answer(request, _with_etag(html, MEDIA_TYPES[".html"]), SAFE_PAGE | {"Cache-Control": REVALIDATE})


def _told(html: bytes, told: dict[str, object]) -> bytes:
    return html.replace(b'content="{}"', f'content="{escape(json.dumps(told))}"'.encode(), 1)


@router.api_route("/logo", methods=["GET", "HEAD"])
async def logo(request: Request) -> Response:
    """The picture of PAGE_LOGO; opened as a page of its own, it may do nothing."""
    found: Asset | None = request.app.state.logo
    if found is None:
        raise HTTPException(404, "PAGE_LOGO is not set.")
    return answer(request, found, SAFE | {"Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": REVALIDATE})


@router.api_route("/spend", methods=["GET", "HEAD"])
async def spend(request: Request, res: ResourcesDep) -> Response:
    """The page of budgets and spend."""
    html = _told(site().pages["spend.html"].body, facts(res))
    return answer(request, _with_etag(html, MEDIA_TYPES[".html"]), SAFE_PAGE | {"Cache-Control": REVALIDATE})


@router.api_route("/static/{version}/{name:path}", methods=["GET", "HEAD"])
async def asset(request: Request, version: str, name: str) -> Response:
    """In a rollout a page of the other version may ask: it gets what is here, to be asked for again."""
    found = site().assets.get(name)
    if found is None:
        raise HTTPException(404, "The chat page has no such file.")
    return answer(request, found, SAFE | {"Cache-Control": FOR_EVER if version == site().version else REVALIDATE})


def answer(request: Request, asset: Asset, headers: dict[str, str]) -> Response:
    """The file, or 304 to who has it."""
    headers = {**headers, "ETag": asset.etag}
    known = request.headers.get("If-None-Match", "")
    if asset.etag in {tag.strip().removeprefix("W/") for tag in known.split(",")}:
        return Response(status_code=304, headers=headers)
    return Response(asset.body, headers=headers, media_type=asset.media_type)
