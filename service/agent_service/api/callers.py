"""Who calls, by the Authorization header or the cookie of a sign-in: looked up once a request, before its body is read."""

from fastapi import Request

from agent_service.principal import Principal
from agent_service.resources import Resources

KEY = "slipway.caller"

OF_PAGE = "x-slipway-page"
"""Header by which the service's own page says that its cookie is meant. A page of another origin cannot send it: browsers ask
first, and no setting lets it (CORS_REQUEST_HEADERS lacks it). Requests without it have no cookies, so none can be forged."""


async def bearer(request: Request) -> Principal:
    """Raises Unauthenticated, IssuerUnavailable."""
    found: Principal | None = request.scope.get(KEY)
    if found is None:
        res: Resources = request.app.state.resources
        found = await res.authenticator.authenticate(_authorization(request), None, _cookies(request))
        request.scope[KEY] = found
        res.cron_owners.note(found)
    return found


def _authorization(request: Request) -> str | None:
    """The header, or an API key in the one that clients of LangGraph send it in."""
    given = request.headers.get("authorization")
    key = request.headers.get("x-api-key")
    return f"Bearer {key}" if given is None and key else given


def _cookies(request: Request) -> dict[str, str] | None:
    return request.cookies if OF_PAGE in request.headers else None
