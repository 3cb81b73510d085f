"""Graphs for the tests, as a user would write them: no import from agent_service."""

import asyncio
from operator import add
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.store.base import BaseStore
from langgraph.types import interrupt


@tool
async def lookup(query: str) -> str:
    """Looks a word up."""
    return f"found {query}"


@tool
async def explode(query: str) -> str:
    """Always fails."""
    raise ValueError(f"no {query} here")


def plain(context: Any) -> StateGraph[Any]:
    """Model and two tools in a loop."""
    return create_agent(context.chat_model, tools=[lookup, explode]).builder


def sync_plain(context: Any) -> StateGraph[MessagesState]:
    """One call of the model, from a sync node: in a thread."""

    def say(state: MessagesState) -> dict[str, Any]:
        return {"messages": [context.chat_model.invoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("say", say).add_edge(START, "say").add_edge("say", END)


def capped(context: Any) -> StateGraph[MessagesState]:
    """One call of the model, whose answer may have 300 tokens."""

    async def say(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await context.chat_model.bind(max_tokens=300).ainvoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("say", say).add_edge(START, "say").add_edge("say", END)


def fan_out(context: Any) -> StateGraph[MessagesState]:
    """Ten calls of the model at once, in one step."""

    async def say(state: MessagesState) -> dict[str, Any]:
        answers = await context.chat_model.abatch([state["messages"]] * 10)
        return {"messages": answers[0]}

    return StateGraph(MessagesState).add_node("say", say).add_edge(START, "say").add_edge("say", END)


def staggered(context: Any) -> StateGraph[MessagesState]:
    """Two branches at once, of which the second calls the model a little later."""

    async def first(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await context.chat_model.ainvoke(state["messages"])]}

    async def second(state: MessagesState) -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return {"messages": [await context.chat_model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("first", first).add_node("second", second)
    return graph.add_edge(START, "first").add_edge(START, "second").add_edge("first", END).add_edge("second", END)


def two_steps(context: Any) -> StateGraph[MessagesState]:
    """Two calls of the model, a step each."""

    async def say(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await context.chat_model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("first", say).add_node("second", say)
    return graph.add_edge(START, "first").add_edge("first", "second").add_edge("second", END)


class NotedState(MessagesState):
    """Messages, and a note."""

    note: str


def gated(context: Any) -> StateGraph[NotedState]:
    """A gate that asks when it is told to, then the model."""

    async def gate(state: NotedState) -> dict[str, Any]:
        asked = str(state["messages"][-1].content)
        return {"note": interrupt({"ask": asked}) if asked.startswith("ask") else "plain"}

    async def say(state: NotedState) -> dict[str, Any]:
        return {"messages": [await context.chat_model.ainvoke(state["messages"])]}

    graph = StateGraph(NotedState).add_node("gate", gate).add_node("model", say)
    return graph.add_edge(START, "gate").add_edge("gate", "model").add_edge("model", END)


class TopicState(TypedDict, total=False):
    """No messages."""

    topic: str
    log: Annotated[list[str], add]


async def _note(state: TopicState) -> dict[str, Any]:
    topic = state.get("topic", "")
    if topic == "fail":
        raise ValueError("on purpose")
    if topic.startswith("slow"):
        await asyncio.sleep(1)
    return {"log": [f"{topic}: {interrupt(topic)}" if topic.endswith("ask") else topic]}


def topical(_: Any) -> StateGraph[TopicState]:
    """State without messages; a node that notes its topic: it fails, waits or asks when told to."""
    graph: StateGraph[TopicState] = StateGraph(TopicState)
    graph.add_node("note", _note)
    graph.add_edge(START, "note")
    graph.add_edge("note", END)
    return graph


class AskState(MessagesState):
    """Messages only."""


async def _ask(state: AskState) -> dict[str, Any]:  # noqa: ARG001  # LangGraph names it
    answer = interrupt({"ask": "which colour?"})
    return {"messages": [AIMessage(f"You chose {answer}.")]}


def asking(_: Any) -> StateGraph[AskState]:
    """Waits for any JSON value and says it."""
    return StateGraph(AskState).add_node("ask", _ask).add_edge(START, "ask").add_edge("ask", END)


async def _work(state: AskState) -> dict[str, Any]:  # noqa: ARG001  # LangGraph names it
    await asyncio.sleep(3600)
    return {}


def endless(_: Any) -> StateGraph[AskState]:
    """A node that never ends."""
    return StateGraph(AskState).add_node("work", _work).add_edge(START, "work").add_edge("work", END)


async def _loop(state: AskState) -> dict[str, Any]:  # noqa: ARG001  # LangGraph names it
    return {}


def looping(_: Any) -> StateGraph[AskState]:
    """Goes round until the step limit."""
    return StateGraph(AskState).add_node("loop", _loop).add_edge(START, "loop").add_edge("loop", "loop")


async def _raise(state: AskState) -> dict[str, Any]:  # noqa: ARG001  # LangGraph names it
    raise RuntimeError("secret detail of the graph")


def raising(_: Any) -> StateGraph[AskState]:
    """Raises in its only node."""
    return StateGraph(AskState).add_node("boom", _raise).add_edge(START, "boom").add_edge("boom", END)


def _sync_say(state: AskState) -> dict[str, Any]:  # noqa: ARG001  # LangGraph names it
    return {"messages": [AIMessage("one\r\ntwo\rthree\n\nfour \0 \ud800 [DONE]")]}


def saying(_: Any) -> StateGraph[AskState]:
    """A sync node with a message that never was streamed, full of awkward characters."""
    return StateGraph(AskState).add_node("say", _sync_say).add_edge(START, "say").add_edge("say", END)


async def _remember(state: AskState) -> dict[str, Any]:
    said = ", ".join(str(message.content) for message in state["messages"] if message.type == "human")
    return {"messages": [AIMessage(f"You said {said}.")]}


def remembering(_: Any) -> StateGraph[AskState]:
    """Says all that the session's user said."""
    graph = StateGraph(AskState)
    graph.add_node("remember", _remember)
    graph.add_edge(START, "remember")
    graph.add_edge("remember", END)
    return graph


async def _ask_or_say(state: AskState) -> dict[str, Any]:
    asked = str(state["messages"][-1].content)
    return await _ask(state) if asked.startswith("ask") else {"messages": [AIMessage(f"I say {asked}.")]}


def asking_or_saying(_: Any) -> StateGraph[AskState]:
    """Waits for a value when asked to ask, and says the question again otherwise."""
    return StateGraph(AskState).add_node("ask", _ask_or_say).add_edge(START, "ask").add_edge("ask", END)


def counting_visits(_: Any) -> StateGraph[MessagesState]:
    """Counts its caller's visits in the store, where its caller sees them."""

    async def count(state: MessagesState, config: RunnableConfig, *, store: BaseStore) -> dict[str, Any]:  # noqa: ARG001  # LangGraph names it
        namespace = (*config["configurable"]["principal"].namespace, "visits")
        before = await store.aget(namespace, "count")
        await store.aput(namespace, "count", {"n": (before.value["n"] if before else 0) + 1})
        return {"messages": [AIMessage("counted")]}

    return StateGraph(MessagesState).add_node("count", count).add_edge(START, "count").add_edge("count", END)
