"""The store of the LangGraph wire: what a caller keeps across threads, in the store that graphs use."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from langgraph.store.base import Item
from starlette.responses import Response

from agent_service.api.deps import Caller, ResourcesDep
from agent_service.api.json_body import JsonRoute
from agent_service.api.langgraph.store_schemas import ItemDelete, ItemPut, ItemSearch, Key, NamespaceSearch, labels
from agent_service.api.openapi import PROBLEMS
from agent_service.db.caller_store import own_part
from agent_service.errors import InvalidRequest
from agent_service.principal import Principal
from agent_service.runs.state_json import state_bytes

router = APIRouter(route_class=JsonRoute, tags=["langgraph"], responses=PROBLEMS)


@router.put("/store/items", status_code=204)
async def put_item(body: ItemPut, res: ResourcesDep, principal: Caller) -> Response:
    """Keeps a value, in place of the one that is there."""
    await res.thread_runs.check_texts(body.value)
    await res.store.put(principal, body.namespace, body.key, body.value)
    return Response(status_code=204)


@router.get("/store/items")
async def get_item(
    res: ResourcesDep,
    principal: Caller,
    namespace: Annotated[str, Query(max_length=4_000, description="Its labels, with dots between.")],
    key: Annotated[Key, Query()],
    refresh_ttl: Annotated[bool, Query()] = False,
) -> Response:
    """An item; null where there is none."""
    try:
        place = labels(namespace.split("."))
    except ValueError as error:
        raise InvalidRequest(f"namespace: {error}", field="namespace") from None
    found = await res.store.get(principal, place, key, refresh_ttl=refresh_ttl)
    return _json(_view(principal, found) if found else None)


@router.delete("/store/items", status_code=204)
async def delete_item(body: ItemDelete, res: ResourcesDep, principal: Caller) -> Response:
    """Deletes an item, if it is there."""
    await res.store.delete(principal, body.namespace, body.key)
    return Response(status_code=204)


@router.post("/store/items/search")
async def search_items(body: ItemSearch, res: ResourcesDep, principal: Caller) -> Response:
    """Items under a namespace, the newest first."""
    async with res.rendering:
        found = await res.store.search(
            principal,
            body.namespace_prefix,
            matching=body.filter,
            limit=body.limit,
            offset=body.offset,
            refresh_ttl=bool(body.refresh_ttl),
        )
        return _json({"items": [{**_view(principal, item), "score": item.score} for item in found]})


@router.post("/store/namespaces")
async def list_namespaces(body: NamespaceSearch, res: ResourcesDep, principal: Caller) -> Response:
    """Namespaces that hold something."""
    found = await res.store.namespaces(
        principal,
        prefix=body.prefix or [],
        suffix=body.suffix or [],
        max_depth=body.max_depth,
        limit=body.limit,
        offset=body.offset,
    )
    return _json({"namespaces": found})


def _view(principal: Principal, item: Item) -> dict[str, Any]:
    return {
        "namespace": own_part(principal, item.namespace),
        "key": item.key,
        "value": item.value,
        "created_at": item.created_at,
        "updated_at": item.updated_at,
    }


def _json(value: object) -> Response:
    return Response(state_bytes(value), media_type="application/json")
