"""Asks for a colour, and mixes it with those of before: its state has more than messages."""

import asyncio
import operator
from typing import Annotated, Any

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt


class State(MessagesState):
    colours: Annotated[list[str], operator.add]


async def wait(state: State) -> dict[str, Any]:
    if "slowly" in str(state["messages"][-1].content):
        await asyncio.sleep(1.5)
    return {}


def ask(state: State) -> dict[str, Any]:
    if "no colour" in str(state["messages"][-1].content):
        return {"colours": ["none"]}
    return {"colours": [interrupt({"ask": "which colour?"})]}


def tell(state: State) -> dict[str, Any]:
    return {"messages": [AIMessage(f"asking: {'+'.join(state['colours'])}")]}


_builder = StateGraph(State).add_node("wait", wait).add_node("ask", ask).add_node("tell", tell)
graph = _builder.add_edge(START, "wait").add_edge("wait", "ask").add_edge("ask", "tell").compile()
