"""The runbooks of the alerts at /runbooks: pages without scripts and without data of anyone, which need no authentication.

`make runbooks` writes them from docs/runbooks, whose paths they have.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from agent_service.api.page import REVALIDATE, SAFE_PAGE, Asset, answer, asset_of

router = APIRouter(include_in_schema=False)

CSP = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@cache
def pages() -> Mapping[str, Asset]:
    """By path: read when one is first asked for, 100 kB. No path of a caller reaches the disk."""
    return dict(_walk(files("agent_service") / "runbook_pages", ""))


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Asset]]:
    found: list[tuple[str, Asset]] = []
    for entry in folder.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            found.extend(_walk(entry, f"{name}/"))
        else:
            path = "" if name == "index.html" else name.replace(".html", ".md")
            found.append((path, asset_of(name, entry.read_bytes())))
    return found


@router.api_route("/runbooks", methods=["GET", "HEAD"])
async def index() -> Response:
    """To the list, by a relative address: a proxy may have put us below another path."""
    return RedirectResponse("runbooks/", 308)


@router.api_route("/runbooks/{path:path}", methods=["GET", "HEAD"])
async def runbook(request: Request, path: str) -> Response:
    """One runbook, or with no path the list of all."""
    found = pages().get(path)
    if found is None:
        raise HTTPException(404, "There is no such runbook: /runbooks/ lists them.")
    return answer(request, found, SAFE_PAGE | {"Content-Security-Policy": CSP, "Cache-Control": REVALIDATE})
