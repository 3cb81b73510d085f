"""Where an MCP client gets a token: the metadata of a protected resource (RFC 9728), which MCP's authorization begins with.

It is there where both are known: this service's address, and an issuer of tokens that is a URL.
"""

from fastapi import APIRouter
from starlette.responses import Response

from agent_service.api.deps import ResourcesDep
from agent_service.api.json_body import JsonResponse
from agent_service.settings import Settings

PATH = "/.well-known/oauth-protected-resource/mcp"

router = APIRouter(include_in_schema=False)


def issuer(settings: Settings) -> str | None:
    """The authorization server that clients are sent to."""
    known = settings.mcp == "on" and settings.public_url and settings.jwt_issuer
    return settings.jwt_issuer if known and str(settings.jwt_issuer).startswith(("https://", "http://")) else None


def challenge(settings: Settings) -> str:
    """`WWW-Authenticate` of a 401 at /mcp."""
    return f'Bearer resource_metadata="{_base(settings)}{PATH}"' if issuer(settings) else "Bearer"


@router.get(PATH)
async def metadata(res: ResourcesDep) -> Response:
    """Needs no authentication: it is for who has none yet."""
    settings = res.settings
    return JsonResponse(
        {
            "resource": f"{_base(settings)}/mcp",
            "authorization_servers": [issuer(settings)],
            "bearer_methods_supported": ["header"],
        }
    )


def _base(settings: Settings) -> str:
    return str(settings.public_url).rstrip("/")
