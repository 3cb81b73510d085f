"""A graph that speaks at a reader's pace, so that a stream takes a while."""

from typing import Any

from langchain.agents import create_agent
from langgraph.graph import StateGraph

from agent_service.agents.offline import OfflineChatModel


def speaking(_: Any) -> StateGraph[Any]:
    """Twenty words or so a second."""
    return create_agent(OfflineChatModel(delay=0.05), tools=[]).builder
