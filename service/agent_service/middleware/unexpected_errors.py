"""What nobody expected: one log line, and a 500 that tells nothing of it."""

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from agent_service.middleware.problem_details import problem_response
from agent_service.middleware.request_id import SENT, Sent

log = structlog.stdlib.get_logger(__name__)


class ErrorMiddleware:
    """Stands within the request's context, so that the answer and the log line carry its id; Starlette's own does not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception:
            log.exception("unexpected_error", method=scope.get("method"), path=scope.get("path"))
            sent: Sent = scope[SENT]
            if sent.status:
                return  # the server sees an answer that is not complete, and closes the connection
            detail = "an unexpected error; it is in the log under the request's id"
            await problem_response(500, "internal", detail, path=scope["path"], retryable=True)(scope, receive, send)
