"""Which assistant a request means: the graph's own, or one that the caller has stored."""

from uuid import UUID

from agent_service.errors import InvalidRequest, NotFound
from agent_service.principal import Principal
from agent_service.resources import Resources
from agent_service.runs.assistant import Assistant, of_graph
from agent_service.runs.graph_context import GraphContext
from agent_service.runs.run_view import assistant_id


def graph_named(res: Resources, wanted: str, *, field: str) -> str:
    """The name of the graph that is meant by its name or by its own assistant's id. Raises InvalidRequest."""
    if found := _graph(res, wanted):
        return found
    raise InvalidRequest(f"{field}: expected the name of a graph or its id, got {wanted!r}; {_known(res)}", field=field)


async def assistant_named(res: Resources, principal: Principal, wanted: str) -> Assistant:
    """By its id, or by its graph's name: for what is to run. Raises InvalidRequest."""
    assistant = await _assistant(res, principal, wanted)
    if assistant is None:
        raise InvalidRequest(
            f"Invalid assistant: {wanted!r}. Expected the name of a graph or an assistant's id; {_known(res)}",
            field="assistant_id",
        )
    if assistant.graph not in res.graphs.by_name:
        raise InvalidRequest(
            f"Invalid assistant: {wanted!r} is of graph {assistant.graph!r}; {_known(res)}", field="assistant_id"
        )
    return assistant


async def assistant_found(res: Resources, principal: Principal, wanted: str) -> Assistant:
    """The same, to be looked at. Raises NotFound."""
    if assistant := await _assistant(res, principal, wanted):
        return assistant
    raise NotFound(f"Assistant {wanted} not found", field="assistant_id")


def schema_of(res: Resources, assistant: Assistant) -> GraphContext:
    """What context its graph takes."""
    return res.graphs.by_name[assistant.graph].context


async def _assistant(res: Resources, principal: Principal, wanted: str) -> Assistant | None:
    if graph := _graph(res, wanted):
        return of_graph(graph)
    try:
        stored = UUID(wanted)
    except ValueError:
        return None
    return await res.assistants.get(principal, stored)


def _graph(res: Resources, wanted: str) -> str | None:
    if wanted in res.graphs.by_name:
        return wanted
    return next((name for name in res.graphs.names if str(assistant_id(name)) == wanted), None)


def _known(res: Resources) -> str:
    return f"served are: {', '.join(sorted(res.graphs.names))}"
