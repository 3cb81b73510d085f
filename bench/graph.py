"""The graphs that are measured, as users write them. AGENT_GRAPH names one; the tutorial compiles those that bring a model.

`shared` and `shared_tool` take the server's model, `own` and `own_tool` make a `ChatOpenAI` themselves.
"""

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from bench.script import MODEL

Graph = StateGraph[MessagesState]


@tool
async def lookup(query: str) -> str:
    """Looks a word up."""
    return f"found {query}"


def one_call(model: BaseChatModel) -> Graph:
    """One model call."""

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    return graph


def with_tool(model: BaseChatModel) -> Graph:
    """A model call, a tool, a model call."""
    bound = model.bind_tools([lookup])

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await bound.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_node("tools", ToolNode([lookup]))
    graph.add_edge(START, "answer")
    graph.add_conditional_edges("answer", tools_condition)
    graph.add_edge("tools", "answer")
    return graph


def own_model() -> ChatOpenAI:
    """Endpoint and key come from its usual variables."""
    return ChatOpenAI(model=MODEL, stream_usage=True)


def shared(context: Any) -> Graph:
    return one_call(context.chat_model)


def shared_tool(context: Any) -> Graph:
    return with_tool(context.chat_model)


def own(_: Any = None) -> Graph:
    return one_call(own_model())


def own_tool(_: Any = None) -> Graph:
    return with_tool(own_model())
