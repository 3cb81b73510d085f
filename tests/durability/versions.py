"""A version of a graph that runs begin under, and what may come after it. The first word of the question picks the way.

`slow` takes STEPS steps, `quick` a few, `ask` waits for a decision. A subgraph, `inner`, asks for `nested`.
"""

import asyncio
from typing import Any, Literal

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt

STEPS, FEW = 25, 3
STEP_SECONDS = 0.1


class State(MessagesState):
    """Messages, how many steps were taken, and what was noted on the way."""

    steps: int
    noted: str


class Renamed(MessagesState):
    """`noted` has another name."""

    steps: int
    notes: str


class More(State):
    """A key that runs of before do not have."""

    mood: str


def way(state: Any) -> Literal["ask", "nested", "step"]:
    word = state["messages"][-1].text.split()[0]
    return word if word in {"ask", "nested"} else "step"


async def step(state: Any) -> dict[str, Any]:
    await asyncio.sleep(STEP_SECONDS)
    return {"steps": state.get("steps", 0) + 1}


def on(state: Any) -> Literal["step", "tell"]:
    return "step" if state["steps"] < (FEW if state["messages"][-1].text.startswith("quick") else STEPS) else "tell"


def asking(question: str) -> Any:
    def ask(_: Any) -> dict[str, Any]:
        return {"messages": [AIMessage(f"told {interrupt(question)}")]}

    return ask


def inner(node: str) -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node(node, asking("inside"))
    graph.add_edge(START, node)
    return graph.compile()


def graph_of(shape: type[Any], key: str, node: str, inside: str) -> Any:
    graph: Any = StateGraph(shape)

    async def note(_: Any) -> dict[str, Any]:
        return {key: "at the beginning"}

    async def tell(state: Any) -> dict[str, Any]:
        return {"messages": [AIMessage(f"{state['steps']} steps, {state[key]}")]}

    ways = {"ask": node, "nested": "nested", "step": "step"}
    graph.add_node("note", note)
    graph.add_node(node, asking("which?"))
    graph.add_node("nested", inner(inside))
    graph.add_node("step", step)
    graph.add_node("tell", tell)
    graph.add_edge(START, "note")
    graph.add_conditional_edges("note", lambda state: ways[way(state)], [*ways.values()])
    graph.add_conditional_edges("step", on, ["step", "tell"])
    graph.add_edge("tell", END)
    return graph


def old(_: object) -> Any:
    return graph_of(State, "noted", "ask", "ask")


def more(_: object) -> Any:
    """A key and a node more."""
    graph = graph_of(More, "noted", "ask", "ask")
    graph.add_node("polish", lambda _: {"mood": "good"})
    return graph


def other_key(_: object) -> Any:
    return graph_of(Renamed, "notes", "ask", "ask")


def other_nodes(_: object) -> Any:
    """Who asks is called differently, in the graph and inside."""
    return graph_of(State, "noted", "inquire", "inquire")


def other(_: object) -> Any:
    return graph_of(Renamed, "notes", "inquire", "inquire")
