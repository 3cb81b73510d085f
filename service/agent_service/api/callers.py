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
        found = await res.authenticator.authenticate(request.headers.get("authorization"), None)
        request.scope[KEY] = found
    return found
