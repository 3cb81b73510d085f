"""A graph that asks for values, as a user would write it."""

from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt


class State(MessagesState):
    """Messages only."""


async def _colour(state: State) -> dict[str, Any]:  # noqa: ARG001  # LangGraph names it
    return {"messages": [AIMessage(f"Colour: {interrupt({'ask': 'which colour?'})}.")]}


async def _size(state: State) -> dict[str, Any]:  # noqa: ARG001  # LangGraph names it
    return {"messages": [AIMessage(f"Size: {interrupt(['S', 'M'])}.")]}


async def _questions(state: State) -> list[str]:
    return ["colour", "size"] if "both" in str(state["messages"][-1].content) else ["colour"]


def build(_: Any) -> StateGraph[State]:
    """Asks for a colour; for a size at the same time when the question says "both"."""
    graph = StateGraph(State).add_node("colour", _colour).add_node("size", _size)
    graph.add_conditional_edges(START, _questions, ["colour", "size"])
    return graph.add_edge("colour", END).add_edge("size", END)
