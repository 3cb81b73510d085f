"""A session that was cancelled in mid-tool never worked again: https://github.com/langchain-ai/agent-chat-ui/issues/80,
https://github.com/charmbracelet/crush/issues/529.

The history ended in a tool call without an answer, which models refuse. Siblings: two calls at once of which one had ended, a
time-out, a crash limit, a session that was broken before and went on, a graph of one's own, and a call that did end.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, InvalidToolCall, ToolMessage
from langchain_core.tools import tool

from agent_service.runs.history import mend
from tests.field.serving import ask, served
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script, ToolCall


@tool
async def hang(query: str) -> str:
    """Never ends."""
    await asyncio.Event().wait()
    return query


@tool
async def quick(query: str) -> str:
    """Ends at once."""
    return query


def build(context: Any) -> Any:
    return create_agent(context.chat_model, tools=[hang, quick])


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel(Script(strict_history=True)) as fake:
        yield fake


def environment(model: FakeModel) -> dict[str, str]:
    return {"MODEL": "fake-1", "OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "sk-1"}


async def stuck_run(client: httpx.AsyncClient, session: str, *, ends_one: bool) -> str:
    """A run whose tool has begun, and the other one ended."""
    asked = await client.post("/chat", json={"question": "go", "session_id": session}, headers={"Prefer": "respond-async"})
    run_id: str = asked.json()["run_id"]
    waited_for = "event: tool_end" if ends_one else "event: tool_start"
    async with client.stream("GET", f"/runs/{run_id}/stream") as lines:
        async for line in lines.aiter_lines():
            if line == waited_for:
                return run_id
    raise AssertionError("no tool began")


CALLS = {
    "one": [ToolCall(name="hang", arguments={"query": "x"})],
    "two, one of which ends": [ToolCall(name="quick", arguments={"query": "x"}), ToolCall(name="hang", arguments={"query": "x"})],
}


@pytest.mark.parametrize("calls", CALLS.values(), ids=CALLS)
async def test_after_a_cancel_in_a_tool_the_next_questions_work(
    database_url: str, model: FakeModel, calls: list[ToolCall]
) -> None:
    model.script.tool_calls = calls
    async with served(database_url, __name__, **environment(model)) as client:
        run_id = await stuck_run(client, "s", ends_one=len(calls) > 1)
        await client.post(f"/runs/{run_id}/cancel")
        while (await client.get(f"/runs/{run_id}")).json()["status"] != "finished":
            await asyncio.sleep(0.02)
        model.script.tool_calls = []
        for question in ("and now?", "and then?"):
            assert (await ask(client, question, session_id="s"))["outcome"] == "completed"


async def test_after_a_time_out_in_a_tool_the_next_question_works(database_url: str, model: FakeModel) -> None:
    model.script.tool_calls = CALLS["one"]
    async with served(database_url, __name__, MAX_TURN_SECONDS="3", **environment(model)) as client:
        assert (await ask(client, session_id="s"))["outcome"] == "timeout"
        model.script.tool_calls = []
        assert (await ask(client, "and now?", session_id="s"))["outcome"] == "completed"


async def test_a_session_that_was_broken_before_works_again(database_url: str, model: FakeModel) -> None:
    """As older versions left it: a call without an answer, and questions that failed after it."""
    model.script.tool_calls = CALLS["one"]
    async with served(database_url, __name__, MAX_TURN_SECONDS="3", **environment(model)) as client:
        await ask(client, session_id="s")
        model.script.tool_calls = []
        with psycopg.connect(database_url) as conn:  # what a version without the cure had put into the next run
            conn.execute(
                "CREATE FUNCTION pg_temp_strip() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN NEW.input := NEW.input - 'mend'; RETURN NEW; END $$"
            )
            conn.execute("CREATE TRIGGER strip BEFORE INSERT ON slipway.runs FOR EACH ROW EXECUTE FUNCTION pg_temp_strip()")
        assert (await ask(client, "and now?", session_id="s"))["outcome"] == "failed"
        with psycopg.connect(database_url) as conn:
            conn.execute("DROP TRIGGER strip ON slipway.runs")
        assert (await ask(client, "and then?", session_id="s"))["outcome"] == "completed"


def call(*ids: str) -> AIMessage:
    return AIMessage("", tool_calls=[{"id": i, "name": "t", "args": {}} for i in ids])


INVALID = InvalidToolCall(id="1", name="t", args="{", error=None, type="invalid_tool_call")


def shown(messages: list[Any]) -> list[str]:
    return [getattr(message, "tool_call_id", None) or message.type for message in messages]


@pytest.mark.parametrize(
    ("history", "put_before_the_question"),
    [
        ([], []),
        ([HumanMessage("q"), AIMessage("a")], []),
        ([HumanMessage("q"), call("1"), ToolMessage("x", tool_call_id="1"), AIMessage("a")], []),
        ([HumanMessage("q"), call("1", "2")], ["1", "2"]),
        ([HumanMessage("q"), call("1", "2"), ToolMessage("x", tool_call_id="1")], ["2"]),
        ([call("1"), HumanMessage("q")], ["remove", "1", "human"]),
        (
            [
                AIMessage(
                    "", invalid_tool_calls=[{"id": "1", "name": "t", "args": "{", "error": None, "type": "invalid_tool_call"}]
                )
            ],
            ["1"],
        ),
    ],
)
def test_each_call_gets_its_answer_right_behind_it(history: list[Any], put_before_the_question: list[str]) -> None:
    found = shown(mend(history))
    assert [name for name in found if name != "ai"] == put_before_the_question
