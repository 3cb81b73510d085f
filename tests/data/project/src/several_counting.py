"""Has a state of its own, without messages."""

from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict):
    count: int


graph = StateGraph(State).add_node("add", lambda state: {"count": state["count"] + 1}).add_edge(START, "add").compile()
