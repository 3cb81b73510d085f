"""U+0000 in a plain channel of the state: https://github.com/langchain-ai/langgraph/issues/1878.

The run failed after it had answered: LangGraph writes short values as JSON into the checkpoint, and JSONB takes no NUL. Siblings:
half a surrogate pair, NaN and infinities, NUL in a dict and in a key, and a state that is read again in the next turn.
"""

import math
from operator import add
from typing import Annotated, Any

import psycopg
import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph import START, MessagesState, StateGraph

from tests.field.serving import ask, served

VALUES: dict[str, Any] = {
    "nul": "a\x00b",
    "only nuls": "\x00" * 3,
    "half a pair": "a\ud800b",
    "nan": math.nan,
    "infinity": -math.inf,
    "in a dict": {"a\x00": ["b\x00", {"c": "\x00"}]},
    "harmless": "plain",
    "number": 1.5,
}


class State(MessagesState):
    page: Any
    seen: Annotated[list[str], add]


def build(_: Any) -> StateGraph[State]:
    """Keeps the value that the question names, and says what the last turn kept."""

    async def keep(state: State) -> dict[str, Any]:
        return {"page": VALUES[state["messages"][-1].text], "seen": [repr(state.get("page"))]}

    async def say(state: State) -> dict[str, Any]:
        return {"messages": [AIMessage(f"{state['page']!r} after {state['seen'][-1]}")]}

    return StateGraph(State).add_sequence([("keep", keep), ("say", say)]).add_edge(START, "keep")


@pytest.mark.parametrize("name", VALUES)
async def test_any_value_of_the_state_is_kept(database_url: str, name: str) -> None:
    kept = VALUES[name] if name != "half a pair" else "a?b"  # msgpack writes UTF-8, which has no half pairs
    async with served(database_url, __name__) as client:
        first = await ask(client, name, session_id="s")
        second = await ask(client, "harmless", session_id="s")
    assert (first["outcome"], second["outcome"]) == ("completed", "completed")
    assert second["answer"] == f"'plain' after {kept!r}".replace("\x00", "\ufffd")


async def test_langgraphs_own_saver_reads_what_ours_wrote(database_url: str) -> None:
    async with served(database_url, __name__) as client:
        await ask(client, "nul", session_id="s")
    with psycopg.connect(database_url, autocommit=True) as conn:
        (thread,) = conn.execute("SELECT DISTINCT thread_id FROM checkpoints").fetchone() or ("",)
    with PostgresSaver.from_conn_string(database_url) as saver:
        saved = saver.get_tuple({"configurable": {"thread_id": thread}})
    assert saved
    assert saved.checkpoint["channel_values"]["page"] == "a\x00b"
