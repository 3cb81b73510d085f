"""A thread's stream of protocol 2 over replicas: a client comes back without saying where, and knows events by their ids."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk import get_client

from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script, echo_tokens
from tests.support.forwarder import forwarder
from tests.support.replicas import running_replicas
from tests.support.thread_reader import asking

TOKENS = 40

CHANNELS = ["values", "lifecycle", "messages"]


class Listener:
    """Events of a thread, each once, however often the connection breaks."""

    def __init__(self, url: str, thread: str) -> None:
        self.thread = thread
        self._url = f"{url}/threads/{thread}/stream/events"
        self.events: list[dict[str, Any]] = []
        self.connections = 0

    async def until(self, lifecycle: str) -> None:
        """Listens until the run says that."""
        while not any(each["event"] == lifecycle for each in self.data("lifecycle")):
            self.connections += 1
            try:
                await self._listen(lifecycle)
            except httpx.TransportError:
                await asyncio.sleep(0.05)

    async def _listen(self, lifecycle: str) -> None:
        async with (
            httpx.AsyncClient(timeout=30) as http,
            http.stream("POST", self._url, json={"channels": CHANNELS}) as response,
        ):
            async for line in response.aiter_lines():
                if line.startswith("data:") and self._is_new(event := json.loads(line.removeprefix("data:"))):
                    self.events.append(event)
                    if event["method"] == "lifecycle" and event["params"]["data"]["event"] == lifecycle:
                        return

    def _is_new(self, event: dict[str, Any]) -> bool:
        return all(event["event_id"] != known["event_id"] for known in self.events)

    def data(self, method: str) -> list[dict[str, Any]]:
        return [event["params"]["data"] for event in self.events if event["method"] == method]

    @property
    def answer(self) -> str:
        """Text of the message that began last."""
        text = ""
        for each in self.data("messages"):
            text = "" if each["event"] == "message-start" else text + each.get("delta", {}).get("text", "")
        return text


async def join(url: str, thread: str) -> tuple[list[str], int]:
    """By the SDK over version 1, which comes back to `Location` by itself: the messages of the run, and the ends that it saw."""
    texts: dict[str, str] = {}
    ends = 0
    async with get_client(url=url) as sdk:
        async for part in await sdk.threads.join_stream(thread):
            data: Any = part.data
            if part.event == "messages" and data[0]["type"] == "remove":
                texts.pop(data[0]["id"], None)
            elif part.event == "messages":
                texts[data[0]["id"]] = texts.get(data[0]["id"], "") + data[0]["content"]
            elif part.event == "metadata" and data.get("status") == "run_done":
                ends += 1
                break
    return list(texts.values()), ends


async def start(url: str, thread: str, question: str) -> None:
    command = {"id": 1, "method": "run.start", "params": {"assistant_id": "agent", "input": asking(question)}}
    async with httpx.AsyncClient() as http:
        answer = (await http.post(f"{url}/threads/{thread}/commands", json=command)).json()
    assert answer["type"] == "success", answer


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_no_word_is_lost_or_doubled_when_a_replica_goes(
    env: dict[str, str], model: FakeModel, tmp_path: Path, end: signal.Signals
) -> None:
    model.script = Script(token_count=TOKENS, tokens_per_second=20)
    async with (
        running_replicas(2, env, tmp_path) as replicas,
        forwarder(lambda: [replica.port for replica in replicas if not replica.dead]) as url,
    ):
        listeners = {f"question {number}": Listener(url, str(uuid4())) for number in range(4)}
        listening = [asyncio.ensure_future(each.until("completed")) for each in listeners.values()]
        for question, each in listeners.items():
            await start(url, each.thread, question)
        joined = [asyncio.ensure_future(join(url, each.thread)) for each in listeners.values()]
        while not all(len(each.answer) > 20 for each in listeners.values()):
            await asyncio.sleep(0.05)

        replicas[0].send(end)
        await replicas[0].wait()
        await asyncio.gather(*listening)
        heard = await asyncio.gather(*joined)

    for question, (texts, runs) in zip(listeners, heard, strict=True):
        assert texts == ["".join(echo_tokens(question, TOKENS))]
        assert runs == 1
    assert any(each.connections > 1 for each in listeners.values()) or end == signal.SIGTERM
    for question, each in listeners.items():
        whole = "".join(echo_tokens(question, TOKENS))
        assert each.answer == whole
        said = [message["content"] for message in each.data("values")[-1]["messages"]]
        assert said == [question, whole]
        assert [event["event"] for event in each.data("lifecycle")].count("completed") == 1


async def test_a_stream_at_one_replica_hears_the_runs_that_begin_at_another(
    env: dict[str, str], model: FakeModel, tmp_path: Path
) -> None:
    model.script = Script(token_count=3)
    async with running_replicas(2, env, tmp_path) as replicas:
        thread = str(uuid4())
        there = Listener(replicas[1].url, thread)
        listening = asyncio.ensure_future(there.until("completed"))
        await start(replicas[0].url, thread, "first")
        await listening
        assert there.answer == "".join(echo_tokens("first", 3))
        assert there.connections == 1


async def test_a_silent_stream_holds_up_no_drain(env: dict[str, str], model: FakeModel, tmp_path: Path) -> None:
    model.script = Script(token_count=3)
    async with running_replicas(1, env, tmp_path) as (replica,):
        thread = str(uuid4())
        await start(replica.url, thread, "first")
        listener = Listener(replica.url, thread)
        await listener.until("completed")
        silent = asyncio.ensure_future(listener.until("failed"))
        while listener.connections < 2:
            await asyncio.sleep(0.02)
        replica.send(signal.SIGTERM)
        assert await replica.wait(15) == 0
        silent.cancel()
