"""One scalar decided several interrupts: https://github.com/langchain-ai/langgraph/issues/8579.

Two parallel nodes waited, and one `{"decisions": [{"type": "approve"}]}` or bare `value` approved both actions. Siblings: an
empty value, false, three at once, interrupts in subgraphs, approvals and own interrupts together, ids of which one is missing.
"""

from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from tests.field.serving import ask, served

APPROVAL = {
    "action_requests": [{"name": "pay", "args": {}}],
    "review_configs": [{"action_name": "pay", "allowed_decisions": ["approve", "reject"]}],
}

APPROVED = {"decisions": [{"type": "approve"}]}


def waits(name: str, question: Any) -> Any:
    async def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"{name}: {interrupt(question)}")]}

    return node


def build(_: Any) -> StateGraph[MessagesState]:
    """Three at once: an approval, a question, and one in a subgraph."""
    inner = StateGraph(MessagesState).add_node("ask", waits("c", "third?")).add_edge(START, "ask").compile()
    graph = StateGraph(MessagesState)
    for name, node in {"a": waits("a", APPROVAL), "b": waits("b", "second?"), "c": inner}.items():
        graph.add_node(name, node).add_edge(START, name)
    return graph


@pytest.mark.parametrize(
    "body",
    [
        {"decisions": [{"type": "approve"}]},
        {"decisions": [{"type": "reject"}]},
        {"value": {"decisions": [{"type": "approve"}]}},
        {"value": "yes"},
        {"value": None},
        {"value": False},
        {"values": {}},
    ],
)
async def test_one_value_never_decides_several(database_url: str, body: dict[str, Any]) -> None:
    async with served(database_url, __name__) as client:
        run = await ask(client)
        ids = [item["id"] for item in run["interrupts"]]
        assert len(ids) == 3
        for tried in (body, {"values": dict.fromkeys(ids[:2], APPROVED)}):
            refused = await client.post(f"/runs/{run['run_id']}/resume", json=tried)
            assert refused.status_code == 422, refused.text
            assert "values" in refused.json()["detail"] or "value" in refused.json()["field"]
        assert (await client.get(f"/runs/{run['run_id']}")).json()["outcome"] == "interrupted"

        values = {
            item["id"]: {"decisions": [{"type": "approve"}]} if item["value"] == APPROVAL else "no" for item in run["interrupts"]
        }
        decided = (await client.post(f"/runs/{run['run_id']}/resume", json={"values": values})).json()
        assert decided["outcome"] == "completed"
        assert sorted(decided["answer"].split("\n\n")) == ["a: {'decisions': [{'type': 'approve'}]}", "b: no", "c: no"]
