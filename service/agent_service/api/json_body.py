"""JSON by orjson: refuses what the standard parser lets through (lone surrogates, NaN) or dies of (10,000 levels)."""

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response


def json_bytes(value: Any) -> bytes:
    return orjson.dumps(value, default=str)


class JsonResponse(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json_bytes(content)


class _JsonRequest(Request):
    async def json(self) -> Any:
        return orjson.loads(await self.body())


class JsonRoute(APIRoute):
    """Parses request bodies with orjson; a body that is not declared as JSON is refused.

    The latter also keeps other sites' pages out: a browser asks before it sends JSON across origins, and forms cannot.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def with_orjson(request: Request) -> Response:
            if self.body_field and not _is_json(request.headers.get("content-type", "")):
                raise HTTPException(415, "Content-Type: expected application/json")
            return await handler(_JsonRequest(request.scope, request.receive))

        return with_orjson


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
