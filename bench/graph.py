"""The graph that both servers run: one model call. `build` is what AGENT_GRAPH names."""

from typing import Any

from langchain_core.language_models import BaseChatModel
from langgraph.graph import END, START, MessagesState, StateGraph


def one_call(model: BaseChatModel) -> StateGraph[MessagesState]:
    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").add_edge("answer", END)


def build(context: Any) -> StateGraph[MessagesState]:
    return one_call(context.chat_model)
