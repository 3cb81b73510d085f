"""The graphs that the suite runs: on Slipway, and on the reference server. They import neither.

The first word of the last question says what `agent` does (ROUTES); else it chats.
"""

import asyncio
import operator
from typing import Annotated, Any

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from typing_extensions import TypedDict  # pydantic makes no schema of typing's on Python 3.11

TICK_SECONDS = 0.05
"""Of the slow node, between two ticks: long enough to do something meanwhile, short enough to wait for the end."""

FORM = {
    "action_request": {"action": "book", "args": {"city": "Paris"}},
    "config": {"allow_ignore": True, "allow_respond": True, "allow_edit": True, "allow_accept": True},
    "description": "May I book?",
}
"""A HumanInterrupt, as Agent Chat UI shows it."""


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    note: str
    steps: Annotated[list[str], operator.add]


class Context(TypedDict, total=False):
    tone: str


@tool
async def weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}."


def said(state: State) -> list[str]:
    """The words of the last question."""
    questions = [str(message.text) for message in state.get("messages", []) if message.type == "human"]
    return (questions[-1] if questions else "").split() or [""]


async def gate(state: State, runtime: Runtime[Context]) -> dict[str, Any]:  # noqa: ARG001  # LangGraph names it
    return {"steps": ["gate"], "note": (runtime.context or {}).get("tone", "plain")}


ROUTES = {
    **{word: word for word in ("approve", "book", "form", "weather", "write", "slow", "fail", "child")},
    "both": ["left", "right"],
}


def route(state: State) -> str | list[str]:
    return ROUTES.get(said(state)[0], "chat")


async def approve(state: State) -> dict[str, Any]:  # noqa: ARG001  # LangGraph names it
    return {"note": f"decided: {interrupt({'question': 'Go on?'})}", "steps": ["approve"]}


async def left(state: State) -> dict[str, Any]:  # noqa: ARG001  # LangGraph names it
    return {"steps": [f"left: {interrupt('left?')}"]}


async def right(state: State) -> dict[str, Any]:  # noqa: ARG001  # LangGraph names it
    return {"steps": [f"right: {interrupt('right?')}"]}


async def form(state: State) -> dict[str, Any]:  # noqa: ARG001  # LangGraph names it
    (decision,) = interrupt([FORM])
    return {"messages": [AIMessage(f"Decided: {decision['type']}.")]}


async def book(state: State) -> dict[str, Any]:  # noqa: ARG001  # LangGraph names it
    """Asks as LangChain's middleware for a person in the loop does."""
    (decision,) = interrupt({"action_requests": [{"name": "book", "args": {"city": "Paris"}}], "review_configs": []})["decisions"]
    return {"messages": [AIMessage(f"Booking: {decision['type']}.")]}


async def write(state: State) -> dict[str, Any]:  # noqa: ARG001  # LangGraph names it
    writer = get_stream_writer()
    for done in (1, 2):
        writer({"done": done})
    return {"messages": [AIMessage("written")]}


async def slow(state: State) -> dict[str, Any]:
    """So many ticks as the question's second word says."""
    writer = get_stream_writer()
    for tick in range(int(said(state)[1])):
        writer({"tick": tick})
        await asyncio.sleep(TICK_SECONDS)
    return {"messages": [AIMessage("slept")]}


async def fail(state: State) -> dict[str, Any]:  # noqa: ARG001  # LangGraph names it
    raise ValueError("the graph failed on purpose")


def agent(model: Any) -> StateGraph[State, Context, State, State]:
    async def chat(state: State) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])], "steps": ["chat"]}

    async def call(state: State) -> dict[str, Any]:
        return {"messages": [await model.bind_tools([weather]).ainvoke(state["messages"])]}

    async def ask(state: State) -> dict[str, Any]:
        return {"note": f"child: {interrupt('child asks')}" if "ask" in said(state) else "child"}

    child = StateGraph(State).add_node("think", chat).add_node("ask", ask)
    child = child.add_edge(START, "think").add_edge("think", "ask").add_edge("ask", END)
    graph = StateGraph(State, context_schema=Context).add_node("gate", gate).add_node("chat", chat)
    graph.add_node("weather", call).add_node("tools", ToolNode([weather])).add_node("child", child.compile())
    for node in (approve, book, left, right, form, write, slow, fail):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "gate").add_conditional_edges("gate", route, [*ROUTES.keys() - {"both"}, "left", "right", "chat"])
    graph.add_edge("weather", "tools").add_edge("tools", "chat").add_edge("approve", "chat").add_edge("chat", END)
    return graph


class Numbers(TypedDict, total=False):
    numbers: Annotated[list[int], operator.add]
    total: int


async def add_up(state: Numbers) -> dict[str, Any]:
    return {"total": sum(state["numbers"])}


counter = StateGraph(Numbers).add_node("add_up", add_up).add_edge(START, "add_up").add_edge("add_up", END)
"""No messages, no model."""


def served(context: Any) -> StateGraph[State, Context, State, State]:
    """For AGENT_GRAPH."""
    return agent(context.chat_model)
