"""Says what it was asked, and how often it was asked; at a pace that the question tells."""

import asyncio
import os
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict


class Context(TypedDict, total=False):
    tone: str


async def first(state: MessagesState) -> dict[str, Any]:
    get_stream_writer()("first step of echo")
    if "slowly" in str(state["messages"][-1].content):
        await asyncio.sleep(1.5)
    return {}


async def say(state: MessagesState, runtime: Runtime[Context]) -> dict[str, Any]:
    asked = [m for m in state["messages"] if m.type == "human"]
    tone = (runtime.context or {}).get("tone", os.environ.get("SEVERAL_GREETING", ""))
    return {"messages": [AIMessage(f"echo {len(asked)} {tone}: {asked[-1].content}")]}


def build() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(MessagesState, Context).add_node("first", first).add_node("say", say)
    return graph.add_edge(START, "first").add_edge("first", "say")
