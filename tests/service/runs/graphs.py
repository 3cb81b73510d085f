"""Graphs whose nodes write down what they did and wait at gates that the test opens.

Each function makes a new graph on one test's `Effects`; the fixture `serve` puts it where AGENT_GRAPH looks.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

Graph = StateGraph[Any, Any, Any, Any]
Update = dict[str, Any]


class Effects(list[str]):
    """What nodes did, in order; a name in it as often as it happened. `gates` are shut until the test opens them."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def add(self, effect: str) -> int:
        """Returns how often it has happened by now."""
        self.append(effect)
        return self.count(effect)


def says(text: str) -> Update:
    return {"messages": [AIMessage(text)]}


def question(state: MessagesState) -> str:
    return str(state["messages"][-1].content)


def chain(*nodes: tuple[str, Any], state: type[MessagesState] = MessagesState) -> Graph:
    """The nodes one after the other."""
    return StateGraph(state).add_sequence(nodes).add_edge(START, nodes[0][0])


def within(graph: Graph, *after: tuple[str, Any]) -> Graph:
    """The graph as the first node, `sub`, of another."""
    return chain(("sub", graph.compile()), *after)


def gated(effects: Effects) -> Graph:
    """Pays, once the gate `pay` is open."""

    async def pay(_: MessagesState) -> Update:
        effects.add("pay")
        await effects.gates["pay"].wait()
        return says("paid")

    return chain(("pay", pay))


def asks_then_hangs(effects: Effects) -> Graph:
    """A subgraph that asks, says its first half, and hangs the first time before the second."""

    async def ask(_: MessagesState) -> Update:
        effects.add(f"answer={interrupt('may I?')}")
        return {}

    async def first(_: MessagesState) -> Update:
        effects.add("first")
        return says("the first half")

    async def second(_: MessagesState) -> Update:
        if effects.add("second") == 1:
            await effects.gates["second"].wait()
        return says("the second half")

    return within(chain(("ask", ask), ("first", first), ("second", second)))


def asks_twice(effects: Effects) -> Graph:
    """One node with two interrupts."""

    async def twice(_: MessagesState) -> Update:
        first = interrupt("read?")
        effects.add(f"read={first}")
        second = interrupt("delete everything?")
        effects.add(f"delete={second}")
        return says(f"{first}, {second}")

    return chain(("twice", twice))


def says_then_hangs(effects: Effects) -> Graph:
    """Says its answer once the gate `say` is open; the node after it hangs the first time."""

    async def say(_: MessagesState) -> Update:
        effects.add("say")
        await effects.gates["say"].wait()
        return says("THE ANSWER")

    async def after(_: MessagesState) -> Update:
        if effects.add("after") == 1:
            await effects.gates["after"].wait()
        return {}

    return chain(("say", say), ("after", after))


def rated(effects: Effects, *, asks: bool = False) -> Graph:
    """Looks something up and keeps it (`cite`) or not (`read`), or declines (`refuse`); then it asks, or hangs the first time."""

    @tool(response_format="content_and_artifact")
    async def search(query: str) -> tuple[str, list[dict[str, str]]]:
        """Finds a page."""
        return f"about {query}", [{"title": "Keys", "section": "Rotation", "source": "keys.md"}]

    async def look(state: MessagesState, config: RunnableConfig) -> Update:
        if (asked := question(state)) == "refuse":
            return {"messages": [AIMessage("no", additional_kwargs={"refusal": "policy"})]}
        if asked == "plain":
            return {}
        call = {"name": "search", "args": {"query": "keys"}, "id": "1"}
        found = await search.ainvoke({"type": "tool_call", **call}, config)
        return {"messages": [AIMessage("", tool_calls=[call]), found]} if asked == "cite" else {}

    async def after(_: MessagesState) -> Update:
        if asks:
            interrupt("may I?")
        elif effects.add("after") == 1:
            await effects.gates["after"].wait()
        return says("said")

    return chain(("look", look), ("after", after))


def says_in_a_subgraph(effects: Effects) -> Graph:
    """A subgraph that answers, and a node after it."""

    async def say(_: MessagesState) -> Update:
        effects.add("say")
        return says("THE ANSWER")

    async def after(_: MessagesState) -> Update:
        effects.add("after")
        return {}

    return within(chain(("say", say)), ("after", after))


def two_steps_in_a_subgraph(effects: Effects) -> Graph:
    """A subgraph of two steps; the first waits for the gate `one`."""

    async def one(_: MessagesState) -> Update:
        effects.add("one")
        await effects.gates["one"].wait()
        return says("one")

    async def two(_: MessagesState) -> Update:
        effects.add("two")
        return says("two")

    return within(chain(("one", one), ("two", two)))


def calls_a_tool_with(arguments: Mapping[str, Any]) -> Graph:
    """Calls a tool with the argument that belongs to the question."""

    @tool
    async def take(thing: Any) -> str:
        """Takes anything."""
        return type(thing).__name__

    async def call(state: MessagesState, config: RunnableConfig) -> Update:
        await take.ainvoke({"thing": arguments[question(state)]}, config)
        return says(f"took it: {question(state)}")

    return chain(("call", call))


def interrupts_with(value: Any) -> Graph:
    """Interrupts with the value if the question is `odd`."""

    async def ask(state: MessagesState) -> Update:
        if question(state) == "odd":
            interrupt(value)
        return says(f"done: {question(state)}")

    return chain(("ask", ask))


class RoutedState(MessagesState):
    """With the key from which the service takes a run's route."""

    route: str


def routes_to(routes: Mapping[str, str]) -> Graph:
    """Takes the route that belongs to the question."""

    async def choose(state: RoutedState) -> Update:
        return {**says(f"done: {question(state)}"), "route": routes[question(state)]}

    return chain(("choose", choose), state=RoutedState)


def raises(error: type[Exception]) -> Graph:
    """Raises an error that quotes the question."""

    async def fail(state: MessagesState) -> Update:
        raise error(f"cannot parse {question(state)}")

    return chain(("fail", fail))
