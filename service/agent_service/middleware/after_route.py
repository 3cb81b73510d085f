"""What goes on after a route has returned: the stream that it has begun, and the places that its answer holds.

A stream stays open for minutes. Sent from within its route, it would keep what routing, dependencies and the request's body
take meanwhile: more than half of the memory of an open stream.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send

AFTER_ROUTE = "slipway.after_route"
"""The request's AfterRoute in its scope."""


@dataclass(slots=True)
class AfterRoute:
    """Of one request."""

    send_answer: Callable[[Receive, Send], Awaitable[None]] | None = None
    """Sends the answer."""
    releases: list[Callable[[], None]] = field(default_factory=list)
    """Called once the answer is sent, or has failed."""


class AfterRouteMiddleware:
    """Stands around all that is done to find and call a route, and within what counts, traces and logs a whole answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        after = AfterRoute()
        try:
            await self._route(scope, after, receive, send)
            if after.send_answer:
                await after.send_answer(receive, send)
        finally:
            for release in after.releases:
                release()

    async def _route(self, scope: Scope, after: AfterRoute, receive: Receive, send: Send) -> None:
        """Its notes in the scope go with it, but for the route, by which an answer is counted."""
        own = {**scope, AFTER_ROUTE: after}
        try:
            await self._app(own, receive, send)
        finally:
            scope["route"] = own.get("route")
