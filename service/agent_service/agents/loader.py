"""From a source to a graph: calls a factory, compiles with the service's own state, says in one line what is wrong."""

import inspect
from collections.abc import Coroutine
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph.state import CompiledStateGraph, StateGraph
from langgraph.store.base import BaseStore

from agent_service.agents.context import AgentContext
from agent_service.agents.graph_import import find
from agent_service.errors import GraphError
from agent_service.langgraph_file import GraphSource
from agent_service.user_code import one_line, said_at

CompiledGraph = CompiledStateGraph[Any, Any, Any, Any]
Graph = StateGraph[Any, Any, Any, Any] | CompiledGraph


def load_graph(source: GraphSource, context: AgentContext) -> Graph:
    """The graph that a source names: a StateGraph, a compiled one, or a factory of either.

    Raises:
        GraphError: one line that names the source and what was found.
    """
    found = find(source)
    if isinstance(found, StateGraph | CompiledStateGraph):
        return found
    if isinstance(found, type) or not callable(found):
        raise GraphError(f"{source} is {_kind(found)}; expected a StateGraph or a function that returns one")
    made = _call(source, found, context)
    if isinstance(made, StateGraph | CompiledStateGraph):
        return made
    if isinstance(made, Coroutine):
        made.close()
        raise GraphError(f"{source} is an async function; a factory is called before there is an event loop: use `def`")
    raise GraphError(f"{source} returned a value {_kind(made)}; expected a StateGraph")


def compile_graph(
    graph: Graph, *, checkpointer: BaseCheckpointSaver[Any], store: BaseStore, source: GraphSource | str = "AGENT_GRAPH"
) -> CompiledGraph:
    """Compiles with the service's own state; a graph that is compiled already keeps all else: breakpoints, `with_config`, cache.

    Raises:
        GraphError: the graph's edges do not fit its nodes.
    """
    try:
        if isinstance(graph, StateGraph):
            return graph.compile(checkpointer=checkpointer, store=store)
        fresh = graph.builder.compile(checkpointer=checkpointer, store=store)
        return graph.copy({"checkpointer": fresh.checkpointer, "store": store})
    except ValueError as error:
        raise GraphError(f"{source}: the graph does not compile: {one_line(error)}") from error


def require_messages(source: GraphSource, graph: Graph) -> None:
    """Of a graph that is to take questions. Raises GraphError."""
    channels = graph.channels if isinstance(graph, StateGraph) else graph.builder.channels
    if "messages" not in channels:
        keys = ", ".join(sorted(channels)) or "nothing"
        raise GraphError(f"{source}: the graph's state has no `messages` (it has {keys}); derive it from MessagesState")


def _call(source: GraphSource, factory: Any, context: AgentContext) -> object:
    """With what it takes: nothing, a RunnableConfig as LangGraph's server gives one, or the AgentContext."""
    taken = _first_parameter(factory)
    given: object = RunnableConfig(configurable={}) if taken and _wants_config(taken) else context
    try:
        return factory(given) if taken else factory()
    except GraphError:
        raise
    except (Exception, SystemExit) as error:
        what = "" if not taken else " with the AgentContext" if given is context else " with a RunnableConfig"
        raise GraphError(f"{source}: calling it{what} raised {one_line(error)}{said_at(error)}") from error


def _first_parameter(factory: Any) -> inspect.Parameter | None:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # one of C has none: it is to say itself what it takes
        return inspect.Parameter("context", inspect.Parameter.POSITIONAL_ONLY)
    positional = (each for each in parameters if each.kind is not each.KEYWORD_ONLY and each.kind is not each.VAR_KEYWORD)
    return next(positional, None)


def _wants_config(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    named = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return parameter.name == "config" or named.rpartition(".")[2] == RunnableConfig.__name__


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__qualname__}"
