"""A page of a list, as clients of LangGraph Platform read it."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from agent_service.errors import InvalidRequest
from agent_service.runs.state_json import state_bytes


def page(found: Sequence[Mapping[str, Any]], limit: int, offset: int, select: Sequence[str] | None = None) -> Response:
    """The first `limit` of what was found, which is one more when there are more: then a header says where these begin."""
    headers = {"X-Pagination-Total": str(offset + len(found))}
    if len(found) > limit:
        headers["X-Pagination-Next"] = str(offset + limit)
    return Response(state_bytes([picked(item, select) for item in found[:limit]]), headers=headers, media_type="application/json")


def picked(item: Mapping[str, Any], select: Sequence[str] | None) -> Mapping[str, Any]:
    """The fields that were asked for; all of them by default. Raises InvalidRequest for one that is not there."""
    if select is None:
        return item
    for name in select:
        if name not in item:
            raise InvalidRequest(f"select: unknown field {name!r}, expected some of {', '.join(item)}", field="select")
    return {name: item[name] for name in select}
