"""From the sources of a process's graphs to what it serves: loaded, compiled with its state, made anew when files change."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from langchain_core.tools import BaseTool
from langgraph.pregel import Pregel

from agent_service.agents.context import AgentContext
from agent_service.agents.graph_import import forget_modules, restore_modules
from agent_service.agents.loader import Graph as LoadedGraph
from agent_service.agents.loader import compile_graph, load_graph, require_messages
from agent_service.db.graph_store import GraphStore
from agent_service.errors import GraphError
from agent_service.langgraph_file import GraphSource
from agent_service.metrics import Metrics
from agent_service.runs.checkpoints import Checkpointer
from agent_service.runs.graph_context import contexts_of
from agent_service.runs.graphs import Graphs, ServedGraph, graphs_with_files
from agent_service.runs.recovery import Graph
from agent_service.settings import GraphSettings, Settings


class GraphBuilder:
    """Loads at once: what is wrong is told before anything is waited for.

    Raises:
        GraphError: a source leads to no graph.
    """

    def __init__(self, named: GraphSettings, context: AgentContext, store: GraphStore, metrics: Metrics) -> None:
        self._named = named
        self._context = context
        self._store = store
        self._metrics = metrics
        self._loaded = {source: self._load(source) for source in named.sources}
        self._one_at_a_time = threading.Lock()

    def compiled(self, checkpointer: Checkpointer) -> Graphs:
        """All of them, as they were loaded."""
        self._checkpointer = checkpointer
        compiled = {source: self._compile(source, graph) for source, graph in self._loaded.items()}
        contexts = contexts_of([graph.context_schema for graph in compiled.values()], self._context.settings.agent_context)
        with_files = graphs_with_files(self._context.settings, [source.name for source in compiled])
        self._graphs = Graphs(
            ServedGraph(source.name, graph, source.target, source.description, context, source.name in with_files)
            for (source, graph), context in zip(compiled.items(), contexts, strict=True)
        )
        return self._graphs

    def reload(self, folders: Iterable[Path]) -> Mapping[str, str]:
        """Makes each graph anew from its files, for runs that begin from now on; those that are going keep theirs.

        Blocks while the user's modules are imported: call it in a thread.

        Returns:
            By name, what is wrong with those that cannot be made; they answer with it until they can.
        """
        with self._one_at_a_time:
            before = forget_modules(folders)
            errors: dict[str, str] = {}
            for source in self._named.sources:
                served = self._graphs.by_name[source.name]
                try:
                    graph = self._compile(source, self._load(source))
                    (context,) = contexts_of([graph.context_schema], self._context.settings.agent_context)
                    served = replace(served, graph=graph, context=context, broken="")
                except GraphError as error:
                    errors[source.name] = error.detail
                    served = replace(served, broken=error.detail)
                self._graphs.by_name[source.name] = served
            if errors:
                restore_modules(before)
            return errors

    def _load(self, source: GraphSource) -> LoadedGraph:
        loaded = load_graph(source, self._context)
        if self._named.chosen and source is self._named.sources[0]:
            require_messages(source, loaded)
        return loaded

    def _compile(self, source: GraphSource, loaded: LoadedGraph) -> Graph:
        graph = compile_graph(loaded, checkpointer=self._checkpointer, store=self._store, source=source)
        declare_names(self._metrics, graph, _known_routes(source))
        return graph


def declare_names(metrics: Metrics, graph: Graph, routes: Iterable[str] = ()) -> None:
    """Bounds the labels to the nodes and tools that this graph has; `routes` are those that it is known to take."""
    nodes: set[str] = set()
    tools: set[str] = set()
    for name, subgraph in [("", graph), *graph.get_subgraphs(recurse=True)]:
        if not isinstance(subgraph, Pregel):
            continue
        nodes |= {name.rpartition("|")[2], *subgraph.nodes} - {"", "__start__"}
        for node in subgraph.nodes.values():
            bound: dict[str, BaseTool] = getattr(node.bound, "tools_by_name", {})
            tools |= set(bound)
    metrics.declare(nodes=nodes, tools=tools, routes=routes)


def _known_routes(source: GraphSource) -> Iterable[str]:
    if source.target != Settings.model_fields["agent_graph"].default:
        return ()  # those of other graphs are met as they are taken
    from agent_service.agents.default.graph import ROUTES  # noqa: PLC0415  # loaded already; other graphs do without it

    return ROUTES
