"""From AGENT_GRAPH to a graph: imports what it names, calls a factory, says in one line what is wrong."""

import importlib
import pkgutil
import sys
from collections.abc import Coroutine, Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph.state import CompiledStateGraph, StateGraph
from langgraph.store.base import BaseStore

from agent_service.agents.context import AgentContext
from agent_service.errors import GraphError

CompiledGraph = CompiledStateGraph[Any, Any, Any, Any]
Graph = StateGraph[Any, Any, Any, Any] | CompiledGraph


def load_graph(spec: str, folder: Path | None, context: AgentContext) -> Graph:
    """The graph that `package.module:attribute` names: a StateGraph, a compiled one, or a factory of either.

    `folder` goes first on the module path of this process, so that a mounted package wins over an installed one.

    Raises:
        GraphError: one line that names the attribute and what was found.
    """
    module_name, _, attribute = spec.partition(":")
    _put_first_on_path(folder)
    module = _import(spec, module_name, folder)
    try:
        found = getattr(module, attribute)
    except AttributeError:
        raise GraphError(f"AGENT_GRAPH={spec}: {module_name} has no {attribute!r}{_hint(attribute, vars(module))}") from None
    return _with_messages(spec, _as_graph(spec, found, context))


def compile_graph(graph: Graph, *, checkpointer: BaseCheckpointSaver[Any], store: BaseStore) -> CompiledGraph:
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
        raise GraphError(f"AGENT_GRAPH: the graph does not compile: {_one_line(error)}") from error


def _put_first_on_path(folder: Path | None) -> None:
    if folder is None:
        return
    if not folder.is_dir():
        raise GraphError(f"AGENT_GRAPH_DIR={folder}: no such folder")
    path = str(folder.resolve())
    if sys.path[:1] != [path]:
        sys.path.insert(0, path)
        # The folder may have been filled since the import system last listed it.
        importlib.invalidate_caches()


def _import(spec: str, name: str, folder: Path | None) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise GraphError(f"AGENT_GRAPH={spec}: no module {missing!r}{_hint(missing, _siblings(missing, folder))}") from None
        raise GraphError(f"AGENT_GRAPH={spec}: {name} imports {missing!r}, which is not installed") from error
    except Exception as error:
        raise GraphError(f"AGENT_GRAPH={spec}: importing {name} raised {_one_line(error)}") from error


def _as_graph(spec: str, found: object, context: AgentContext) -> Graph:
    if isinstance(found, StateGraph | CompiledStateGraph):
        return found
    if isinstance(found, type) or not callable(found):
        raise GraphError(f"AGENT_GRAPH={spec} is {_kind(found)}; expected a StateGraph or a function that returns one")
    made = _call(spec, found, context)
    if isinstance(made, StateGraph | CompiledStateGraph):
        return made
    if isinstance(made, Coroutine):
        made.close()
        raise GraphError(f"AGENT_GRAPH={spec} is an async function; a factory is called before there is an event loop: use `def`")
    raise GraphError(f"AGENT_GRAPH={spec} returned a value {_kind(made)}; expected a StateGraph")


def _call(spec: str, factory: Any, context: AgentContext) -> object:
    try:
        return factory(context)
    except GraphError:
        raise
    except Exception as error:
        raise GraphError(f"AGENT_GRAPH={spec}: calling it with the AgentContext raised {_one_line(error)}") from error


def _with_messages(spec: str, graph: Graph) -> Graph:
    if "messages" in graph.channels:
        return graph
    keys = ", ".join(sorted(graph.channels)) or "nothing"
    raise GraphError(f"AGENT_GRAPH={spec}: the graph's state has no `messages` (it has {keys}); derive it from MessagesState")


def _siblings(missing: str, folder: Path | None) -> list[str]:
    """Modules that could have been meant: those beside the missing one, with its package's prefix."""
    parent, _, _ = missing.rpartition(".")
    if parent:
        spec = find_spec(parent)
        paths = list(spec.submodule_search_locations or []) if spec else []
        return [f"{parent}.{module.name}" for module in pkgutil.iter_modules(paths)]
    return [module.name for module in pkgutil.iter_modules([str(folder)] if folder else None)]


def _hint(wanted: str, names: Iterable[str]) -> str:
    close = get_close_matches(wanted, [n for n in names if not n.startswith("__")], n=3)
    return f" (did you mean {', '.join(close)}?)" if close else ""


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__qualname__}"


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
