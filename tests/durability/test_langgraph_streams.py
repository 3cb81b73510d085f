"""Streams of LangGraph's own client through the deaths of replicas, by an address that leads to whichever is there."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script, echo_tokens
from tests.support.forwarder import forwarder
from tests.support.replicas import Replica, running_replicas
from tests.support.thread_reader import ThreadReader, asking

TOKENS = 40

pytestmark = pytest.mark.filterwarnings("ignore:Request failed, attempting reconnect")  # what the client says when it comes back


@asynccontextmanager
async def two_replicas(env: dict[str, str], folder: Path) -> AsyncIterator[tuple[list[Replica], LangGraphClient]]:
    async with (
        running_replicas(2, env, folder) as replicas,
        forwarder(lambda: [r.port for r in replicas if not r.dead]) as url,
        get_client(url=url, headers={"connection": "close"}) as client,
    ):
        yield replicas, client


async def executes(replica: Replica) -> bool:
    async with httpx.AsyncClient() as http:
        return bool((await http.get(f"{replica.ops_url}/status")).json()["runs_in_flight"])


def expected(text: str) -> str:
    return "".join(echo_tokens(text, TOKENS))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_no_token_is_lost_or_doubled_when_replicas_die(
    env: dict[str, str], model: FakeModel, tmp_path: Path, end: signal.Signals
) -> None:
    model.script = Script(token_count=TOKENS, tokens_per_second=20)
    async with two_replicas(env, tmp_path) as (replicas, client):
        readers = [ThreadReader(f"question {n}") for n in range(6)]
        running = [asyncio.ensure_future(reader.run(client)) for reader in readers]
        while not all(len(reader.answer) > 20 for reader in readers):
            await asyncio.sleep(0.05)

        replicas[0].send(end)
        await replicas[0].wait()
        await asyncio.gather(*running)

        for reader in readers:
            whole = expected(reader.question)
            assert reader.errors == []
            assert list(reader.texts.values()) == [whole], reader.attempts
            assert [m["content"] for m in reader.values["messages"] if m["type"] == "ai"] == [whole]
            assert reader.state == [whole]
            assert len(set(reader.seen)) == len(reader.seen), "an event came twice"
        assert any(reader.attempts[-1] == 2 for reader in readers) or end == signal.SIGTERM


async def test_a_wait_that_is_cut_comes_back_for_the_whole_state(env: dict[str, str], model: FakeModel, tmp_path: Path) -> None:
    model.script = Script(token_count=TOKENS, tokens_per_second=20)
    async with two_replicas(env, tmp_path) as (replicas, client):
        waiting = [asyncio.ensure_future(client.runs.wait(None, "agent", input=asking(f"question {n}"))) for n in range(4)]
        while len(model.requests) < 4:
            await asyncio.sleep(0.05)
        await replicas[0].kill()

        states: list[Any] = await asyncio.gather(*waiting)

    assert [state["messages"][-1]["content"] for state in states] == [expected(f"question {n}") for n in range(4)]


async def test_what_a_command_changes_is_changed_once_however_often_its_run_is_taken_over(
    env: dict[str, str], model: FakeModel, tmp_path: Path
) -> None:
    model.script = Script(token_count=TOKENS, tokens_per_second=20)
    async with two_replicas({**env, "AGENT_GRAPH": "tests.support.graphs:gated"}, tmp_path) as (replicas, client):
        thread = (await client.threads.create())["thread_id"]
        await client.runs.wait(thread, "agent", input=asking("first"))
        asked = len(model.requests)
        command: Any = {"update": asking("and this"), "goto": "model"}
        changing = [asyncio.ensure_future(client.runs.wait(thread, "agent", command=command))]
        while len(model.requests) == asked:
            await asyncio.sleep(0.05)
        (holder,) = [each for each in replicas if await executes(each)]
        await holder.kill()
        states: list[Any] = await asyncio.gather(*changing)

    said = [message["content"] for message in states[0]["messages"] if message["type"] == "human"]
    assert said == ["first", "and this"]


async def test_a_stream_is_joined_at_the_other_replica_after_any_event(
    env: dict[str, str], model: FakeModel, tmp_path: Path
) -> None:
    model.script = Script(token_count=12, tokens_per_second=200)
    async with (
        running_replicas(2, env, tmp_path) as replicas,
        get_client(url=replicas[0].url) as here,
        get_client(url=replicas[1].url) as there,
    ):
        thread = await here.threads.create()
        modes: list[Any] = ["messages-tuple", "updates", "values"]
        run = await here.runs.create(thread["thread_id"], "agent", input=asking("all"), stream_mode=modes)
        await here.runs.join(thread["thread_id"], run["run_id"])
        whole = [part async for part in there.runs.join_stream(thread["thread_id"], run["run_id"])]
        for number, part in enumerate(whole):
            rest = [each async for each in there.runs.join_stream(thread["thread_id"], run["run_id"], last_event_id=part.id)]
            assert _plain(rest) == _plain(whole[number + 1 :]), part

    assert [part.event for part in whole if part.event == "messages"]
    assert whole[-1].event == "end"


def _plain(parts: list[Any]) -> list[tuple[str, str]]:
    return [(part.event, json.dumps(part.data)) for part in parts if part.event != "values"]
