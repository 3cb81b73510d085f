"""Assistants of the LangGraph wire: one for each served graph, and what the graph is like."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import TypeAdapter
from starlette.responses import Response

from agent_service.api.deps import Caller, ResourcesDep
from agent_service.api.json_body import JsonResponse, JsonRoute
from agent_service.api.langgraph.pages import page
from agent_service.api.langgraph.wire_schemas import AssistantSearch
from agent_service.api.openapi import PROBLEMS
from agent_service.errors import Forbidden, InvalidRequest, NotFound
from agent_service.resources import Resources
from agent_service.runs.recovery import Graph
from agent_service.runs.run_view import assistant_id
from agent_service.runs.state_json import state_bytes

router = APIRouter(route_class=JsonRoute, tags=["langgraph"], responses=PROBLEMS)

MAX_XRAY_LEVELS = 10
"""Of subgraphs in a drawing."""


def graph_named(res: Resources, wanted: str, *, field: str = "assistant_id") -> str:
    """The name of the graph that is meant by its name or by its assistant's id. Raises InvalidRequest."""
    for name in res.graphs.names:
        if wanted in {name, str(assistant_id(name))}:
            return name
    known = ", ".join(sorted(res.graphs.names))
    raise InvalidRequest(
        f"Invalid assistant: {wanted!r}. Expected the name of a graph or its id; served are: {known}", field=field
    )


def _found(res: Resources, wanted: str) -> tuple[str, Graph]:
    try:
        name = graph_named(res, wanted)
    except InvalidRequest as error:
        raise NotFound(error.detail, field="assistant_id") from None
    return name, res.graphs.by_name[name].graph


def _view(res: Resources, name: str) -> dict[str, Any]:
    return {
        "assistant_id": str(assistant_id(name)),
        "graph_id": name,
        "config": {},
        "context": {},
        "metadata": {"created_by": "system"},
        "name": name,
        "created_at": res.started_at,
        "updated_at": res.started_at,
        "version": 1,
        "description": res.graphs.by_name[name].description or None,
    }


def _matching(res: Resources, body: AssistantSearch) -> list[dict[str, Any]]:
    views = [_view(res, name) for name in res.graphs.names]
    wanted = body.metadata or {}
    return [
        view
        for view in views
        if body.graph_id in {None, view["graph_id"]}
        and (body.name is None or body.name.lower() in view["name"].lower())
        and wanted.items() <= view["metadata"].items()
    ]


@router.post("/assistants/search")
async def search_assistants(body: AssistantSearch, res: ResourcesDep, _: Caller) -> Response:
    """One for each graph."""
    key = body.sort_by or "created_at"
    found = sorted(_matching(res, body), key=lambda view: (view[key], view["name"]), reverse=body.sort_order != "asc")
    return page(found[body.offset : body.offset + body.limit + 1], body.limit, body.offset, body.select)


@router.post("/assistants/count")
async def count_assistants(body: AssistantSearch, res: ResourcesDep, _: Caller) -> Response:
    """How many graphs are served."""
    return JsonResponse(len(_matching(res, body)))


@router.get("/assistants/{assistant_id}")
async def get_assistant(assistant_id: str, res: ResourcesDep, _: Caller) -> Response:
    """By its id, or by its graph's name."""
    return JsonResponse(_view(res, _found(res, assistant_id)[0]))


@router.get("/assistants/{assistant_id}/graph")
async def get_assistant_graph(
    assistant_id: str, res: ResourcesDep, _: Caller, xray: Annotated[str, Query()] = "false"
) -> Response:
    """Nodes and edges; with `xray` those of subgraphs, too, to a depth."""
    graph = _found(res, assistant_id)[1]
    drawn = graph.get_graph(xray=_levels(xray)).to_json()
    return _json({**drawn, "nodes": _nodes(drawn["nodes"])})


@router.get("/assistants/{assistant_id}/schemas")
async def get_assistant_schemas(assistant_id: str, res: ResourcesDep, _: Caller) -> Response:
    """JSON Schemas of what the graph takes and gives; null where it has none that JSON can say."""
    name, graph = _found(res, assistant_id)
    return _json({"graph_id": name, **_schemas(graph), "context_schema": _schema(graph.get_context_jsonschema)})


@router.get("/assistants/{assistant_id}/subgraphs")
async def get_assistant_subgraphs(
    assistant_id: str, res: ResourcesDep, _: Caller, recurse: Annotated[bool, Query()] = False
) -> Response:
    """Schemas of the graphs inside, by namespace."""
    return _subgraphs(_found(res, assistant_id)[1], None, recurse=recurse)


@router.get("/assistants/{assistant_id}/subgraphs/{namespace}")
async def get_assistant_subgraph(
    assistant_id: str, namespace: str, res: ResourcesDep, _: Caller, recurse: Annotated[bool, Query()] = False
) -> Response:
    """The same of one namespace."""
    return _subgraphs(_found(res, assistant_id)[1], namespace, recurse=recurse)


@router.post("/assistants")
async def create_assistant(_: Caller) -> Response:
    """Refused: there is one assistant for each served graph."""
    raise Forbidden("assistants are not stored: there is one for each served graph; give `config` and `context` with each run")


@router.patch("/assistants/{assistant_id}")
@router.delete("/assistants/{assistant_id}")
async def change_assistant(assistant_id: str, _: Caller) -> Response:
    """Refused likewise."""
    raise Forbidden(f"assistant {assistant_id}: assistants are not stored, there is one for each served graph")


def _json(value: object) -> Response:
    return Response(state_bytes(value), media_type="application/json")


def _levels(xray: str) -> bool | int:
    if xray.lower() in {"true", "false"}:
        return xray.lower() == "true"
    if xray.isascii() and xray.isdigit() and 0 < int(xray[:3]) <= MAX_XRAY_LEVELS:
        return int(xray)
    raise InvalidRequest(f"xray: expected true, false, or a number from 1 to {MAX_XRAY_LEVELS}", field="xray")


def _nodes(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With a name in `data`, as clients read it, where LangChain gives the class as a list of names."""
    return [
        {**node, "data": {"name": node["data"].get("name") or node["id"]}} if isinstance(node.get("data"), dict) else node
        for node in nodes
    ]


def _subgraphs(graph: Graph, namespace: str | None, *, recurse: bool) -> Response:
    return _json({name: _schemas(inner) for name, inner in graph.get_subgraphs(namespace=namespace, recurse=recurse)})


def _schemas(graph: Any) -> Mapping[str, Any]:
    return {
        "input_schema": _schema(graph.get_input_jsonschema),
        "output_schema": _schema(graph.get_output_jsonschema),
        "state_schema": _schema(lambda: TypeAdapter(graph.builder.state_schema).json_schema()),
        "config_schema": _schema(graph.get_context_jsonschema) or {"properties": {}, "title": "Config", "type": "object"},
    }


def _schema(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception:  # pydantic's, of a state with types that have no schema
        return None
