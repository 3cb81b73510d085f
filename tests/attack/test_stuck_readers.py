"""Clients that ask and do not read. Counted against a real process: its memory, its streams, who else is served."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.attack.rawhttp import Push, bystander, closed, connect, resident_mb, told
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script
from tests.support.replicas import Replica, running_replicas
from tests.support.service import JWT_SECRET
from tests.support.tokens import bearer

READERS = 80
WORDS, WORD = 2_500, "x" * 999 + " "
ANSWER_MB = WORDS * len(WORD) / 1024**2

UNREAD_SECONDS = 8
"""Instead of 30, so that the test is short."""

KEY, V1_KEY = uuid4().hex, uuid4().hex
"""Of the calls that are joined: each reader asks as the first one did."""


@dataclass
class Answered:
    """A replica that has given a large answer to alice."""

    replica: Replica
    client: httpx.AsyncClient
    run_id: str
    session_id: str

    @property
    def memory(self) -> float:
        assert self.replica.process
        return resident_mb(self.replica.process.pid)

    async def streams_open(self) -> float:
        text = (await self.client.get(f"{self.replica.ops_url}/metrics")).text
        return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith("agent_streams_open"))

    async def until_open(self, count: int) -> None:
        async with asyncio.timeout(50):
            while await self.streams_open() != count:
                await asyncio.sleep(0.05)


pytestmark = pytest.mark.timeout(180)  # on a busy machine; usually 25 s


@pytest.fixture
async def answered(database_url: str, tmp_path: Path) -> AsyncIterator[Answered]:
    async with FakeModel(Script(tokens=[WORD] * WORDS)) as model:
        env = {
            "AUTH": "required",
            "JWT_SECRET": JWT_SECRET,
            "DATABASE_URL": database_url,
            "AGENT_GRAPH": "tests.support.graphs:plain",
            "MODEL": "gpt-4o",
            "OPENAI_BASE_URL": model.url,
            "OPENAI_API_KEY": "sk-test",
            "UNREAD_SECONDS": str(UNREAD_SECONDS),
            "MAX_STREAMS_PER_PRINCIPAL": str(READERS + 20),
            "DATABASE_TIMEOUT": "60",  # what is counted is memory and streams, on a busy machine too
        }
        async with running_replicas(1, env, tmp_path, anew=True) as (replica,), httpx.AsyncClient(timeout=60) as client:
            answer = await client.post(
                f"{replica.url}/chat", json={"question": "say much"}, headers={**bearer("alice"), "Idempotency-Key": KEY}
            )
            run = answer.json()
            assert len(run["answer"]) == WORDS * len(WORD)
            yield Answered(replica, client, run["run_id"], run["session_id"])


def request(method: str, path: str, body: object = None, key: str = KEY) -> bytes:
    sent = json.dumps(body).encode() if body else b""
    headers = {
        "Host": "a",
        "Connection": "close",
        **bearer("alice"),
        **({"Content-Type": "application/json", "Content-Length": str(len(sent)), "Idempotency-Key": key} if body else {}),
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + sent


@contextlib.asynccontextmanager
async def stuck(port: int, asked: bytes, count: int = READERS) -> AsyncIterator[list]:  # type: ignore[type-arg]  # of sockets
    readers = []
    try:
        for _ in range(count):
            readers.append(await connect(port, receive_buffer=4096))
            await Push(readers[-1])([asked])
        yield readers
    finally:
        for reader in readers:
            reader.close()


async def test_readers_that_do_not_read_cost_little_and_are_cut_off(answered: Answered) -> None:
    replica, path = answered.replica, f"/runs/{answered.run_id}/stream"
    question = {"messages": [{"role": "user", "content": "say much"}], "stream": True}
    first = {**bearer("alice"), "Idempotency-Key": V1_KEY}
    assert (
        len((await answered.client.post(f"{replica.url}/v1/chat/completions", json=question, headers=first)).content) > 2_000_000
    )
    asked = {
        "stream of a run": (replica.port, request("GET", path), READERS, 10),
        "/v1 stream": (replica.port, request("POST", "/v1/chat/completions", question, V1_KEY), READERS, 10),
        "/chat, not streamed": (replica.port, request("POST", "/chat", {"question": "say much"}), READERS, 150),
        "history": (replica.port, request("GET", f"/sessions/{answered.session_id}/messages"), READERS, 150),
        "/metrics": (replica.ops_port, request("GET", "/metrics"), READERS, 20),
    }
    print(f"\n{READERS} readers of {ANSWER_MB:.1f} MB that read nothing\n{'what':<22} before   with  after  streams  others s")
    for name, (port, sent, count, most) in asked.items():
        async with stuck(port, sent, 3) as some:  # what the first ones load stays
            for one in some:
                await told(one, 20 if "stream" not in name else 1)
        before = answered.memory
        async with bystander(f"{replica.url}/sessions", bearer("bob")) as seen, stuck(port, sent, count) as readers:
            if "stream" in name and "not" not in name:
                await answered.until_open(count)
            await asyncio.sleep(1)
            with_them, streams = answered.memory, await answered.streams_open()
            if name == "stream of a run":  # the others are let go, which takes less time
                await answered.until_open(0)
                assert all(await asyncio.gather(*(closed(one, 5) for one in readers)))
        await answered.until_open(0)
        assert seen.failures == []
        print(f"{name:<22} {before:>6.0f} {with_them:>6.0f} {answered.memory:>6.0f} {streams:>8.0f} {seen.worst:>9.2f}")
        assert with_them - before < most, name


async def test_one_caller_has_so_many_streams_and_others_theirs(answered: Answered) -> None:
    path = f"/runs/{answered.run_id}/stream"
    async with stuck(answered.replica.port, request("GET", path), READERS + 20):
        await answered.until_open(READERS + 20)
        refused = await answered.client.get(f"{answered.replica.url}{path}", headers=bearer("alice"))
        waiting = await answered.client.post(f"{answered.replica.url}/chat", json={"question": "more"}, headers=bearer("alice"))
        other = await answered.client.get(f"{answered.replica.url}/sessions", headers=bearer("alice"))
        bob = await answered.client.post(f"{answered.replica.url}/v1/chat/completions", json=BOB, headers=bearer("bob"))
    for answer in (refused, waiting):
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_streams")
        assert "MAX_STREAMS_PER_PRINCIPAL" in answer.json()["detail"]
        assert answer.headers["retry-after"]
    assert other.status_code == bob.status_code == 200
    await answered.until_open(0)
    again = await answered.client.get(f"{answered.replica.url}{path}", headers=bearer("alice"))
    assert again.status_code == 200
    assert again.text.count("data: ") > 100  # words that arrive together are one event


BOB = {"messages": [{"role": "user", "content": "say it"}]}
