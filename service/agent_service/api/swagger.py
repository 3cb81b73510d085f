"""Swagger UI at /docs, where API_DOCS is on: to read and to try the HTTP API by hand."""

from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from agent_service.api.page import REVALIDATE, SAFE, SAFE_PAGE, SWAGGER, Asset, answer, asset_of, site

router = APIRouter(include_in_schema=False)

# Swagger UI gives the browser's parser HTML that it has cleaned itself (DOMPurify, of which one policy is), of Markdown in the
# document. The other policy is ours (static/js/swagger.js): it lets through what Markdown needs, and nothing else. Swagger UI's
# pictures are `data:` addresses in its style sheet. All else is as on the chat page.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script';"
    " trusted-types default dompurify"
)

NAMES = ("swagger-ui-bundle.js", "swagger-ui.css")


@cache
def _assets() -> dict[str, Asset]:
    """Read when they are first asked for: 2 MB, which a service without the page does not hold."""
    folder = files("agent_service") / "static" / SWAGGER
    return {name: asset_of(name, (folder / name).read_bytes()) for name in NAMES}


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs(request: Request) -> Response:
    """The page, which needs no authentication: it has what /openapi.json tells anyone."""
    headers = SAFE_PAGE | {"Content-Security-Policy": CSP, "Cache-Control": REVALIDATE}
    return answer(request, site().pages["swagger.html"], headers)


@router.api_route("/docs/{name}", methods=["GET", "HEAD"])
async def docs_asset(request: Request, name: str) -> Response:
    """A script or style sheet of it."""
    found = _assets().get(name)
    if found is None:
        raise HTTPException(404, "Swagger UI has no such file.")
    return answer(request, found, SAFE | {"Cache-Control": REVALIDATE})
