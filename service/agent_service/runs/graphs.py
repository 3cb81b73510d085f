"""The graphs of a process by name. Each session belongs to one of them, and each run to its session's."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from langgraph.graph import START
from langgraph.pregel import Pregel

from agent_service.errors import InvalidRequest, OtherGraph, SettingsError
from agent_service.runs.graph_context import GraphContext
from agent_service.runs.recovery import Graph
from agent_service.setting_types import split_names
from agent_service.settings import Settings


@dataclass(frozen=True)
class ServedGraph:
    """A compiled graph, and what its users are told of it."""

    name: str
    graph: Graph
    target: str = ""
    """What it was loaded from."""
    description: str = ""
    context: GraphContext = field(default_factory=GraphContext)
    takes_files: bool = False
    """With a question (FILE_GRAPHS)."""
    broken: str = ""
    """What is wrong with its changed files (`slipway dev --reload`): runs that begin end with it. `graph` is the one before."""

    @cached_property
    def needs_every_state(self) -> bool:
        """Whether it stops behind a node: that it did is told by the state before."""
        graphs = [self.graph, *(graph for _, graph in self.graph.get_subgraphs(recurse=True))]
        return any(isinstance(graph, Pregel) and graph.interrupt_after_nodes for graph in graphs)

    @cached_property
    def begins_with_work(self) -> bool:
        """Whether what it does first is done at the state of the question: by a router on START."""
        return START in self.graph.builder.branches

    @property
    def chats(self) -> bool:
        """Whether it takes a question: its state has `messages`."""
        return "messages" in self.graph.channels


def named_graphs(setting: str, value: str, served: Sequence[str]) -> Sequence[str]:
    """Names that a setting lists, separated by commas. Raises SettingsError: one is not served."""
    named = split_names(value)
    if unknown := sorted(set(named) - set(served)):
        raise SettingsError(f"{setting}: {', '.join(unknown)} is not served here; {', '.join(served)} is")
    return named


def graphs_with_files(settings: Settings, served: Sequence[str]) -> frozenset[str]:
    """Graphs that take files with a question, as who wrote them has said. Raises SettingsError: one is not served."""
    return frozenset(named_graphs("FILE_GRAPHS", settings.file_graphs, served))


class Graphs:
    """What this process serves. `default` is for a request that names none: the first one that takes a question, if any does."""

    def __init__(self, served: Iterable[ServedGraph]) -> None:
        self.by_name = {each.name: each for each in served}
        self._default = next((each.name for each in self.by_name.values() if each.chats), next(iter(self.by_name)))

    @property
    def default(self) -> ServedGraph:
        return self.by_name[self._default]

    @property
    def names(self) -> list[str]:
        return list(self.by_name)

    def named(self, name: str | None) -> ServedGraph:
        """The default one for None. Raises InvalidRequest, which lists what is served."""
        found = self.default if name is None else self.by_name.get(name)
        if found is None:
            raise InvalidRequest(f"graph: expected one of {', '.join(self.by_name)}", field="graph")
        return found

    def of_session(self, name: str) -> ServedGraph:
        """Of a session or a run that is there. Raises OtherGraph when another process serves it, or none any more."""
        found = self.by_name.get(name)
        if found is None:
            served = ", ".join(self.by_name)
            raise OtherGraph(f"the session belongs to graph {name}, which is not served here; {served} is", graph=name)
        return found
