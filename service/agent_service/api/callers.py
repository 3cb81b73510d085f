"""Who calls, by the Authorization header: looked up once a request, and before its body is read."""

from fastapi import Request

from agent_service.principal import Principal
from agent_service.resources import Resources

KEY = "slipway.caller"


async def bearer(request: Request) -> Principal:
    """Raises Unauthenticated, IssuerUnavailable."""
    found: Principal | None = request.scope.get(KEY)
    if found is None:
        res: Resources = request.app.state.resources
        found = await res.authenticator.authenticate(_authorization(request), None)
        request.scope[KEY] = found
    return found


def _authorization(request: Request) -> str | None:
    """The header, or an API key in the one that clients of LangGraph send it in."""
    given = request.headers.get("authorization")
    key = request.headers.get("x-api-key")
    return f"Bearer {key}" if given is None and key else given
