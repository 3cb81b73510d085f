"""Streams of LangGraph's own client through the deaths of replicas, by an address that leads to whichever is there."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script, echo_tokens
from tests.support.forwarder import forwarder
from tests.support.replicas import Replica, running_replicas

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


class Transcript:
    """What a chat window would hold: messages as `messages` and `values` events make them."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.values: dict[str, Any] = {}
        self.attempts: list[int] = []
        self.errors: list[Any] = []
        self.seen: list[tuple[str | None, str, str]] = []

    async def read(self, stream: AsyncIterator[Any]) -> None:
        async for part in stream:
            self.seen.append((part.id, part.event, json.dumps(part.data)))
            match part.event:
                case "metadata":
                    self.attempts.append(part.data["attempt"])
                case "messages":
                    self.take(part.data[0])
                case "values":
                    self.values = part.data
                case "error":
                    self.errors.append(part.data)

    def take(self, chunk: dict[str, Any]) -> None:
        if chunk["type"] == "remove":
            self.texts.pop(chunk["id"], None)
        elif chunk["type"] == "AIMessageChunk":
            self.texts[chunk["id"]] = self.texts.get(chunk["id"], "") + chunk["content"]


def asking(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


async def question(client: LangGraphClient, text: str, transcript: Transcript) -> str:
    thread = await client.threads.create()
    stream = client.runs.stream(
        thread["thread_id"],
        "agent",
        input=asking(text),
        stream_mode=["messages-tuple", "values"],
    )
    await transcript.read(stream)
    return thread["thread_id"]


async def texts_of_state(client: LangGraphClient, thread_id: str) -> list[str]:
    state: Any = await client.threads.get_state(thread_id)
    return [message["content"] for message in state["values"]["messages"] if message["type"] == "ai"]


def expected(text: str) -> str:
    return "".join(echo_tokens(text, TOKENS))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_no_token_is_lost_or_doubled_when_replicas_die(
    env: dict[str, str], model: FakeModel, tmp_path: Path, end: signal.Signals
) -> None:
    model.script = Script(token_count=TOKENS, tokens_per_second=20)
    async with two_replicas(env, tmp_path) as (replicas, client):
        transcripts = [Transcript() for _ in range(6)]
        running = [asyncio.ensure_future(question(client, f"question {n}", each)) for n, each in enumerate(transcripts)]
        while not all(any(len(text) > 20 for text in each.texts.values()) for each in transcripts):
            await asyncio.sleep(0.05)

        replicas[0].send(end)
        await replicas[0].wait()
        threads = await asyncio.gather(*running)

        for number, (thread, transcript) in enumerate(zip(threads, transcripts, strict=True)):
            whole = expected(f"question {number}")
            assert transcript.errors == []
            assert list(transcript.texts.values()) == [whole], transcript.attempts
            assert [m["content"] for m in transcript.values["messages"] if m["type"] == "ai"] == [whole]
            assert await texts_of_state(client, thread) == [whole]
            assert len(set(transcript.seen)) == len(transcript.seen), "an event came twice"
        assert any(transcript.attempts[-1] == 2 for transcript in transcripts) or end == signal.SIGTERM


async def test_a_wait_that_is_cut_comes_back_for_the_whole_state(env: dict[str, str], model: FakeModel, tmp_path: Path) -> None:
    model.script = Script(token_count=TOKENS, tokens_per_second=20)
    async with two_replicas(env, tmp_path) as (replicas, client):
        waiting = [asyncio.ensure_future(client.runs.wait(None, "agent", input=asking(f"question {n}"))) for n in range(4)]
        while len(model.requests) < 4:
            await asyncio.sleep(0.05)
        await replicas[0].kill()

        states: list[Any] = await asyncio.gather(*waiting)

    assert [state["messages"][-1]["content"] for state in states] == [expected(f"question {n}") for n in range(4)]


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
