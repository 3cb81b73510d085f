"""MCP and A2A when a replica dies or is replaced in the middle of an answer: their own clients, on the next replica."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx2
import psycopg
import pytest
from a2a.client import Client
from a2a.client.errors import A2AClientError
from a2a.types.a2a_pb2 import GetTaskRequest, SubscribeToTaskRequest, Task, TaskState

from tests.durability.fleet import until
from tests.support import a2a, mcp
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script, echo_tokens
from tests.support.replicas import Replica, running_replicas

TOKENS = 400
"""At 20 a second: longer than a replica that drains waits for the end of a step. The next replica's model is faster."""

ANSWER = "".join(echo_tokens(a2a.QUESTION, TOKENS))

SLOW, FAST = Script(token_count=TOKENS, tokens_per_second=20), Script(token_count=TOKENS, tokens_per_second=200)

Leave = Callable[[Replica], Coroutine[None, None, object]]
WAYS: dict[str, Leave] = {"kill -9": Replica.kill, "SIGTERM": Replica.stop}


class Balancer(httpx2.AsyncBaseTransport):
    """What stands before the replicas: sends each request to the first that lives."""

    def __init__(self, replicas: list[Replica]) -> None:
        self._replicas = replicas
        self._transport = httpx2.AsyncHTTPTransport()
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        replica = next(replica for replica in self._replicas if not replica.dead)
        request.url = request.url.copy_with(host="127.0.0.1", port=replica.port)
        self.asked.append(f"{request.method} {self._replicas.index(replica)}")
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self._transport.aclose()


def attempts(env: dict[str, str]) -> list[tuple[str, int]]:
    """Outcome and attempts of every run."""
    with psycopg.connect(env["DATABASE_URL"]) as conn:
        return conn.execute("SELECT outcome, attempt FROM slipway.runs").fetchall()


async def asked(replica: Replica, version: str) -> Task:
    """Asks by the call that waits for the end."""
    async with a2a.client_of(replica.url, version) as client:
        return await a2a.send(client, a2a.message())


async def completed(client: Client, task_id: str) -> Task | None:
    task = await client.get_task(GetTaskRequest(id=task_id))
    return task if TaskState.Name(task.status.state) == "TASK_STATE_COMPLETED" else None


@pytest.fixture
def env(env: dict[str, str], model: FakeModel) -> dict[str, str]:
    model.script = SLOW
    return {**env, "DRAIN_SECONDS": "0.2"}


@pytest.mark.parametrize(("era", "way"), [("legacy", "kill -9"), ("auto", "SIGTERM")])
async def test_a_call_of_mcp_ends_on_the_next_replica(
    env: dict[str, str], model: FakeModel, tmp_path: Path, era: str, way: str
) -> None:
    async with running_replicas(2, env, tmp_path) as replicas:
        balancer = Balancer(replicas)
        told: list[float] = []
        leaving: list[asyncio.Task[object]] = []

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001  # MCP names them
            told.append(progress)
            if len(told) == 2:
                model.script = FAST
                leaving.append(asyncio.create_task(WAYS[way](replicas[0])))

        async with mcp.client_of(replicas[0].url, era, transport=balancer) as client:
            result = await client.call_tool("agent", {"question": a2a.QUESTION}, progress_callback=on_progress)
        await asyncio.gather(*leaving)

        assert (mcp.said(result), result.is_error) == (ANSWER, False)
        assert len(told) > 2
        assert told == sorted(set(told))
        assert "GET 1" in balancer.asked
        assert attempts(env) == [("completed", 2)]


@pytest.mark.parametrize(("version", "way"), [("1.0", "kill -9"), ("0.3", "SIGTERM")])
async def test_a_task_of_a2a_goes_on_on_the_next_replica(
    env: dict[str, str], model: FakeModel, tmp_path: Path, version: str, way: str
) -> None:
    async with running_replicas(2, env, tmp_path) as (first, second):
        async with a2a.client_of(first.url, version) as client:
            waiting = asyncio.create_task(asked(first, version)) if way == "SIGTERM" else None
            stream = client.send_message(a2a.message())
            seen = await a2a.told(stream, until_text=40, leave=False)
            runs = 2 if waiting else 1
            await until(lambda: len(attempts(env)) == runs or None)  # a call that comes after SIGTERM is refused
            model.script = FAST
            leaving = asyncio.create_task(WAYS[way](first))
            with suppress(A2AClientError):
                await a2a.told(stream, seen)
        assert 40 <= len(seen.answer) < len(ANSWER)
        assert ANSWER.startswith(seen.answer)

        async with a2a.client_of(second.url, version) as client:
            await a2a.told(client.subscribe(SubscribeToTaskRequest(id=seen.task.id)), seen)
            assert seen.answer == ANSWER
            assert seen.states[-1] == "TASK_STATE_COMPLETED"
            if waiting:  # a call that waited is told how its task stands, and where it goes on
                task = await waiting
                assert TaskState.Name(task.status.state) == "TASK_STATE_WORKING"
                ended: Task = await until(partial(completed, client, task.id))
                assert ended.artifacts[0].parts[0].text == ANSWER
        await leaving
        assert set(attempts(env)) == {("completed", 2)}
