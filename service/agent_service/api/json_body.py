"""JSON by orjson: refuses what the standard parser lets through (lone surrogates, NaN) or dies of (10,000 levels)."""

from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from functools import cached_property
from typing import Any

import orjson
from fastapi import Request
from fastapi.dependencies.models import Dependant
from starlette.exceptions import HTTPException
from starlette.responses import Response

from agent_service.api.callers import bearer
from agent_service.api.late_route import LateRoute
from agent_service.errors import InvalidRequest
from agent_service.nesting import fits

LINE_ENDS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))
"""Line and paragraph separator and next line, in UTF-8 and as JSON may write them."""


def json_bytes(value: object) -> bytes:
    """UTF-8; times as ISO 8601, UUIDs as text."""
    return orjson.dumps(value, default=str)


def json_line(value: object) -> bytes:
    """JSON that is one line for clients, too, that cut at every line end of Unicode (httpx's `iter_lines`)."""
    line = json_bytes(value)
    for raw, escaped in LINE_ENDS:
        line = line.replace(raw, escaped)
    return line


class JsonResponse(Response):
    """A JSON answer by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json_bytes(content)


MAX_VALUES = 50_000
"""In one body: ten times those of 500 messages, and 128 tools with large schemas beside. A million of them fit a megabyte."""

PARSER_LEVELS = 1_024
"""That orjson reads. What a graph is given has a limit of its own, by its field."""


class _JsonRequest(Request):
    async def json(self) -> Any:
        body = orjson.loads(await self.body())
        if not fits(body, levels=PARSER_LEVELS, values=MAX_VALUES):
            raise InvalidRequest(f"body: expected at most {MAX_VALUES} values", field="body")
        return body


class JsonRoute(LateRoute):
    """Parses request bodies with orjson; a body that is not declared as JSON is refused.

    The latter also keeps other sites' pages out: a browser asks before it sends JSON across origins, and forms cannot.
    """

    @cached_property
    def query_names(self) -> frozenset[str]:
        """Names of the query parameters that the route and its dependencies declare."""
        return frozenset(_query_names(self.dependant))

    @cached_property
    def query_lists(self) -> frozenset[str]:
        """Those that may be given several times."""
        return frozenset(field.alias for field in self.dependant.query_params if "list" in str(field.field_info.annotation))

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's hook: its handler with our request class."""
        handler = super().get_route_handler()

        async def with_orjson(request: Request) -> Response:
            if self.body_field:
                await bearer(request)  # a stranger's body is neither kept nor parsed; every route with one needs a caller
                if not _is_json(request.headers.get("content-type", "")):
                    raise HTTPException(415, "Content-Type: expected application/json")
            return await handler(_JsonRequest(request.scope, request.receive))

        return with_orjson


def _query_names(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for needed in dependant.dependencies:
        yield from _query_names(needed)


def check_query(request: Request) -> None:
    """Raises InvalidRequest for a parameter that the route does not have, or has twice: a typo must not pass for a default."""
    route = request.scope["route"]
    if not (isinstance(route, JsonRoute) and request.scope["query_string"]):
        return
    counts = Counter(name for name, _ in request.query_params.multi_items())
    for name, count in counts.items():
        if name not in route.query_names:
            known = ", ".join(sorted(route.query_names)) or "none"
            raise InvalidRequest(f"{name}: unknown query parameter, expected {known}", field=name)
        if count > 1 and name not in route.query_lists:
            raise InvalidRequest(f"{name}: expected once, got {count} times", field=name)


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
