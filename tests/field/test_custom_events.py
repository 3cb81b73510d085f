"""What a graph says by `get_stream_writer()` was dropped: https://github.com/langchain-ai/langgraph/pull/1776,
https://github.com/langchain-ai/langgraphjs-api/pull/9.

Siblings: any JSON, things that are no JSON, a writer in a subgraph and in a sync node, one event of
megabytes, a reconnect.
"""

import asyncio
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph

from tests.field.serving import served, stream
from tests.support import sse

SAID: list[Any] = [{"progress": 0.5}, "half", 7, None, [1, {"a": "\x00"}], {"odd": {1, 2}.__class__}]


async def node(state: MessagesState) -> dict[str, Any]:
    writer = get_stream_writer()
    for value in SAID:
        writer(value)
        await asyncio.sleep(0)
    return {}


def sync_node(state: MessagesState) -> dict[str, Any]:
    get_stream_writer()({"from": "a thread"})
    return {}


async def huge(state: MessagesState) -> dict[str, Any]:
    get_stream_writer()({"blob": "x" * 3_000_000})
    return {"messages": [AIMessage("done")]}


def build(_: Any) -> Any:
    inner = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()
    sequence: list[Any] = [("sub", inner), ("sync", sync_node), ("huge", huge)]
    return StateGraph(MessagesState).add_sequence(sequence).add_edge(START, "sub")


async def test_custom_events_reach_the_reader_in_order_and_again_on_a_reconnect(database_url: str) -> None:
    async with served(database_url, __name__) as client:
        live = await stream(client)
        again = await sse.read(client, "GET", f"/runs/{live.named('run')[0]['run_id']}/stream")
    assert live.text == "done"
    found = live.named("custom")
    assert found[:5] == [{"progress": 0.5}, "half", 7, None, [1, {"a": "\ufffd"}]]
    assert found[6:] == [{"from": "a thread"}, {"too_large_bytes": 3_000_011}]
    assert [(event.id, event.data) for event in again.events] == [(event.id, event.data) for event in live.events]
