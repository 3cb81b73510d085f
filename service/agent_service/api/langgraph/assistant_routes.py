"""Assistants of the LangGraph wire: one for each served graph, those that callers store, and what their graphs are like."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Query
from pydantic import TypeAdapter
from starlette.responses import Response

from agent_service.api.deps import Caller, ResourcesDep
from agent_service.api.json_body import JsonResponse, JsonRoute, json_bytes
from agent_service.api.langgraph.assistant_schemas import (
    AssistantChange,
    AssistantCreate,
    AssistantFilter,
    AssistantSearch,
    VersionChoice,
    VersionSearch,
)
from agent_service.api.langgraph.assistants import assistant_found, graph_named, schema_of
from agent_service.api.langgraph.pages import page
from agent_service.api.langgraph.run_inputs import own_config
from agent_service.api.langgraph.thread_routes import erase_thread
from agent_service.api.openapi import PROBLEMS
from agent_service.errors import AlreadyExists, Forbidden, InvalidRequest
from agent_service.principal import Principal
from agent_service.resources import Resources
from agent_service.runs.assistant import Assistant, of_graph
from agent_service.runs.recovery import Graph
from agent_service.runs.state_json import state_bytes
from agent_service.runs.thread_types import Search

router = APIRouter(route_class=JsonRoute, tags=["langgraph"], responses=PROBLEMS)

MAX_XRAY_LEVELS = 10
"""Of subgraphs in a drawing."""

MAX_ASSISTANT_BYTES = 32_768
"""Of what its owner gives, as JSON: a search reads all assistants of a caller."""

THREADS_AT_ONCE = 100
"""Of one look for threads to delete."""

UNTITLED = "Untitled"
"""As LangGraph Platform calls one without a name."""


# Stored


@router.post("/assistants")
async def create_assistant(body: AssistantCreate, res: ResourcesDep, principal: Caller) -> Response:
    """A graph with config and context of the caller's; with `if_exists: do_nothing` the one that is there."""
    join = body.if_exists == "do_nothing"
    if body.assistant_id and (own := _of_system(res, body.assistant_id)):
        if not join:
            raise AlreadyExists(f"assistant_id: {body.assistant_id} is the one of graph {own.graph}", field="assistant_id")
        return JsonResponse(_view(res, own))
    named = Assistant(body.assistant_id or uuid4(), graph_named(res, body.graph_id, field="graph_id"), UNTITLED)
    return JsonResponse(_view(res, await res.assistants.create(principal, _changed(res, named, body), join=join)))


@router.patch("/assistants/{assistant_id}")
async def change_assistant(assistant_id: UUID, body: AssistantChange, res: ResourcesDep, principal: Caller) -> Response:
    """Makes a new version, which runs take from now on."""
    _refuse_change(res, assistant_id)
    return JsonResponse(
        _view(res, await res.assistants.change(principal, assistant_id, lambda before: _changed(res, before, body)))
    )


@router.delete("/assistants/{assistant_id}", status_code=204)
async def delete_assistant(
    assistant_id: UUID, res: ResourcesDep, principal: Caller, delete_threads: Annotated[bool, Query()] = False
) -> Response:
    """Deletes it with its versions and crons, and with `delete_threads` the threads that it ran on last."""
    _refuse_change(res, assistant_id)
    await assistant_found(res, principal, str(assistant_id))
    wanted = Search(metadata={"assistant_id": str(assistant_id)}, limit=THREADS_AT_ONCE)
    while delete_threads and (threads := await res.threads.search(principal, wanted)):
        for thread in threads:
            await erase_thread(res, principal, thread)
    await res.assistants.delete(principal, assistant_id)
    return Response(status_code=204)


@router.post("/assistants/{assistant_id}/versions")
async def list_versions(assistant_id: UUID, body: VersionSearch, res: ResourcesDep, principal: Caller) -> Response:
    """Its versions, the newest first."""
    if own := _of_system(res, assistant_id):
        versions = [] if body.offset or not _has(_view(res, own), body.metadata) else [own]
    else:
        versions = await res.assistants.versions(
            principal, assistant_id, body.metadata or {}, limit=body.limit + 1, offset=body.offset
        )
    return page([_view(res, each) for each in versions], body.limit, body.offset)


@router.post("/assistants/{assistant_id}/latest")
async def choose_version(assistant_id: UUID, body: VersionChoice, res: ResourcesDep, principal: Caller) -> Response:
    """Makes a version the one that runs take."""
    _refuse_change(res, assistant_id)
    return JsonResponse(_view(res, await res.assistants.choose(principal, assistant_id, body.version)))


def _of_system(res: Resources, assistant_id: UUID) -> Assistant | None:
    return next((own for own in map(of_graph, res.graphs.names) if own.id == assistant_id), None)


def _refuse_change(res: Resources, assistant_id: UUID) -> None:
    if own := _of_system(res, assistant_id):
        raise Forbidden(f"assistant {assistant_id} is the one of graph {own.graph}, which all callers share: create your own")


def _changed(res: Resources, before: Assistant, body: AssistantChange) -> Assistant:
    """Config or context, whichever is given, takes the place of both. Raises InvalidRequest, BothContexts."""
    graph = graph_named(res, body.graph_id, field="graph_id") if body.graph_id else before.graph
    config, context = before.config, before.context
    if body.config is not None:
        config, context = own_config(body.config, body.context), context if not body.config.configurable else {}
    if body.context or (body.context is not None and not (body.config and body.config.configurable)):  # {} beside it is none
        config, context = {name: value for name, value in config.items() if name != "configurable"}, body.context  # type: ignore[assignment]  # ConfigInput's keys
    found = replace(
        before,
        graph=graph,
        name=body.name or before.name,
        description=body.description or before.description,
        config=config,
        context=context,
        metadata={**before.metadata, **(body.metadata or {})},
    )
    if graph in res.graphs.by_name:
        schema_of(res, found).refuse_unknown(found.context)
    size = len(json_bytes([found.config, found.context, found.metadata, found.description]))
    if size > MAX_ASSISTANT_BYTES:
        raise InvalidRequest(
            f"config: with context, metadata and description expected at most {MAX_ASSISTANT_BYTES} bytes, got {size}",
            field="config",
        )
    return found


# All


@router.post("/assistants/search")
async def search_assistants(body: AssistantSearch, res: ResourcesDep, principal: Caller) -> Response:
    """One for each graph, and those that the caller stored."""
    key = body.sort_by or "created_at"
    found = sorted(
        await _matching(res, principal, body), key=lambda view: (view[key], view["name"]), reverse=body.sort_order != "asc"
    )
    return page(found[body.offset : body.offset + body.limit + 1], body.limit, body.offset, body.select)


@router.post("/assistants/count")
async def count_assistants(body: AssistantFilter, res: ResourcesDep, principal: Caller) -> Response:
    """How many there are."""
    return JsonResponse(len(await _matching(res, principal, body)))


@router.get("/assistants/{assistant_id}")
async def get_assistant(assistant_id: str, res: ResourcesDep, principal: Caller) -> Response:
    """By its id, or by its graph's name."""
    return JsonResponse(_view(res, await assistant_found(res, principal, assistant_id)))


async def _matching(res: Resources, principal: Principal, body: AssistantFilter) -> list[dict[str, Any]]:
    own = [view for name in res.graphs.names if _has(view := _view(res, of_graph(name)), body.metadata)]
    stored = [_view(res, each) for each in await res.assistants.all_of(principal, body.metadata or {})]
    return [
        view
        for view in [*own, *stored]
        if body.graph_id in {None, view["graph_id"]} and (body.name is None or body.name.lower() in view["name"].lower())
    ]


def _has(view: Mapping[str, Any], metadata: Mapping[str, Any] | None) -> bool:
    return all(name in view["metadata"] and view["metadata"][name] == value for name, value in (metadata or {}).items())


def _view(res: Resources, assistant: Assistant) -> dict[str, Any]:
    stored = assistant.is_stored
    about = assistant.description if stored else res.graphs.by_name[assistant.graph].description
    return {
        "assistant_id": str(assistant.id),
        "graph_id": assistant.graph,
        "config": assistant.config,
        "context": assistant.context,
        "metadata": assistant.metadata if stored else {"created_by": "system"},
        "name": assistant.name,
        "created_at": assistant.created_at or res.started_at,
        "updated_at": assistant.updated_at or res.started_at,
        "version": assistant.version,
        "description": about or None,
    }


# Graphs


async def _graph_of(res: Resources, principal: Principal, wanted: str) -> tuple[str, Graph]:
    """Raises NotFound, OtherGraph."""
    served = res.graphs.of_session((await assistant_found(res, principal, wanted)).graph)
    return served.name, served.graph


@router.get("/assistants/{assistant_id}/graph")
async def get_assistant_graph(
    assistant_id: str, res: ResourcesDep, principal: Caller, xray: Annotated[str, Query()] = "false"
) -> Response:
    """Nodes and edges; with `xray` those of subgraphs, too, to a depth."""
    graph = (await _graph_of(res, principal, assistant_id))[1]
    drawn = graph.get_graph(xray=_levels(xray)).to_json()
    return _json({**drawn, "nodes": _nodes(drawn["nodes"])})


@router.get("/assistants/{assistant_id}/schemas")
async def get_assistant_schemas(assistant_id: str, res: ResourcesDep, principal: Caller) -> Response:
    """JSON Schemas of what the graph takes and gives; null where it has none that JSON can say."""
    name, graph = await _graph_of(res, principal, assistant_id)
    return _json({"graph_id": name, **_schemas(graph), "context_schema": _schema(graph.get_context_jsonschema)})


@router.get("/assistants/{assistant_id}/subgraphs")
async def get_assistant_subgraphs(
    assistant_id: str, res: ResourcesDep, principal: Caller, recurse: Annotated[bool, Query()] = False
) -> Response:
    """Schemas of the graphs inside, by namespace."""
    return _subgraphs((await _graph_of(res, principal, assistant_id))[1], None, recurse=recurse)


@router.get("/assistants/{assistant_id}/subgraphs/{namespace}")
async def get_assistant_subgraph(
    assistant_id: str, namespace: str, res: ResourcesDep, principal: Caller, recurse: Annotated[bool, Query()] = False
) -> Response:
    """The same of one namespace."""
    return _subgraphs((await _graph_of(res, principal, assistant_id))[1], namespace, recurse=recurse)


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
