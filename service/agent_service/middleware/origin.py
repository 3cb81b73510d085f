"""Keeps pages of other sites from using what a browser of this machine or network can reach."""

import ipaddress
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from agent_service.middleware.problem_details import problem_response

GUARDED = frozenset({"/chat/stream", "/mcp"})
"""With authentication, too: a GET that starts something, and MCP's, whose specification asks for it. Other calls that do
something need a JSON body or a header that browsers ask about first."""

OPENED = "/runbooks"
"""What a link of any site may open, beside the chat page: chats show alerts with links to runbooks."""


class OriginMiddleware:
    """Refuses calls that a page of another site made (403 `cross_site`), unless its origin is in `origins`.

    Args:
        anyone: AUTH=disabled, so that every path is guarded, and `Host` must be a name that no stranger can point here:
            an address, localhost, a name without a public domain (a Service of the cluster), or one of `hosts`.
    """

    def __init__(self, app: ASGIApp, *, anyone: bool, hosts: frozenset[str], origins: frozenset[str]) -> None:
        self._app = app
        self._anyone = anyone
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(scope)):
            code, field, detail = refusal
            await problem_response(403, code, f"{field}: {detail}", path=scope["path"], field=field)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[str, str, str] | None:
        """Code, field and what was expected."""
        if not (self._anyone or scope["path"] in GUARDED):
            return None
        headers = [(name, value.decode("latin-1")) for name, value in scope["headers"]]
        hosts = [value for name, value in headers if name == b"host"]
        if self._anyone and not all(self._is_ours(host) for host in hosts):
            return "host_not_allowed", "Host", "expected an address, localhost or a name of ALLOWED_HOSTS"
        origins = [value for name, value in headers if name == b"origin"]
        if origins and all(origin in self._origins for origin in origins):
            return None
        if any(origin.partition("://")[2].lower() not in {host.lower() for host in hosts} for origin in origins):
            return "cross_site", "Origin", "expected this site's own, or one of CORS_ORIGINS"
        sites = {value for name, value in headers if name == b"sec-fetch-site"}
        opens_page = (scope["path"] == "/" or scope["path"].startswith(OPENED)) and (b"sec-fetch-mode", "navigate") in headers
        if not opens_page and sites & {"cross-site", "same-site"}:
            return "cross_site", "Sec-Fetch-Site", "expected a page of this site, or one of CORS_ORIGINS"
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        return name in self._hosts or is_private_name(name)


def is_private_name(name: str) -> bool:
    """Whether no public domain can have that name, so that nobody can point it at another's machine (DNS rebinding)."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return bool(name) and ("." not in name or name.endswith((".localhost", ".svc", ".cluster.local")))
    return True
