"""A second question in a busy session, a reader who leaves, and a database whose notices never come.

Two services with pools, leases and queues of their own in this process: nothing is killed here.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.durability.fleet import until
from tests.support.fake_model import FakeModel, Recorded
from tests.support.fake_script import Script, echo_tokens
from tests.support.reader import Reader
from tests.support.service import RunningService, running_service

LATER = {"Prefer": "respond-async"}


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel(Script(token_count=20, tokens_per_second=20)) as fake:
        yield fake


@asynccontextmanager
async def two_services(database_url: str, model: FakeModel, **env: str) -> AsyncIterator[list[RunningService]]:
    endpoint = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "sk-test", "MODEL": "gpt-4o"}
    everything = {"AGENT_GRAPH": "tests.support.graphs:plain", "LEASE_SECONDS": "2", **endpoint, **env}
    async with running_service(database_url, **everything) as first, running_service(database_url, **everything) as second:
        yield [first, second]


async def ask(service: RunningService, question: str, session_id: str) -> str:
    async with service.client() as client:
        response = await client.post("/chat", json={"question": question, "session_id": session_id}, headers=LATER)
    assert response.status_code == 202, response.text
    return str(response.json()["run_id"])


def turns(model: FakeModel) -> list[Recorded]:
    """Requests of runs; the others are health checks."""
    return [request for request in model.requests if request.path.endswith("/chat/completions")]


async def ended(service: RunningService, run_id: str) -> dict[str, Any]:
    async with service.client() as client:

        async def look() -> dict[str, Any] | None:
            run: dict[str, Any] = (await client.get(f"/runs/{run_id}")).json()
            return run if run["outcome"] else None

        return await until(look)


async def test_enqueued_questions_are_answered_in_order_wherever_they_were_asked(database_url: str, model: FakeModel) -> None:
    async with two_services(database_url, model, ON_BUSY="enqueue") as services:
        questions = [f"question {n}" for n in range(4)]
        ids = [await ask(services[n % 2], question, "one-session") for n, question in enumerate(questions)]
        runs = [await ended(services[0], run_id) for run_id in ids]

        assert [run["answer"] for run in runs] == ["".join(echo_tokens(question, 20)) for question in questions]
        finished = [run["finished_at"] for run in runs]
        assert finished == sorted(finished)
        asked = [request.payload["messages"][-1]["content"] for request in turns(model)]
        assert asked == questions
        with psycopg.connect(database_url) as conn:
            overlaps = conn.execute(
                "SELECT count(*) FROM slipway.runs a JOIN slipway.runs b"
                " ON a.created_at < b.created_at AND b.started_at < a.finished_at"
            ).fetchone()
        assert overlaps == (0,)


async def test_a_decision_goes_before_questions_that_wait(database_url: str, model: FakeModel) -> None:
    graph = {"AGENT_GRAPH": "tests.durability.graphs:build"}
    async with two_services(database_url, model, ON_BUSY="enqueue", **graph) as [first, second]:
        # A turn that interrupts while a second question already waits in the queue.
        model.script = Script(token_count=20, tokens_per_second=40)
        before = await ask(first, "agent, first", "waits")
        asking = await ask(first, "ask me", "waits")
        waiting = await ask(second, "agent, at last", "waits")
        await ended(first, before)
        assert (await ended(second, asking))["outcome"] == "interrupted"

        async with second.client() as client:
            held = (await client.get(f"/runs/{waiting}")).json()
            resumed = (await client.post(f"/runs/{asking}/resume", json={"value": "green"})).json()

        assert held["status"] == "queued"
        assert resumed["answer"] == "You chose green."
        last = await ended(first, waiting)
        assert last["answer"] == "".join(echo_tokens("agent, at last", 20))
        assert last["finished_at"] > resumed["finished_at"]


async def test_a_queued_question_can_be_cancelled_while_it_waits(database_url: str, model: FakeModel) -> None:
    model.script = Script(token_count=200, tokens_per_second=20)
    async with two_services(database_url, model, ON_BUSY="enqueue") as [first, second]:
        going = await ask(first, "a long one", "queue")
        waiting = await ask(first, "never mind", "queue")
        reader = Reader(lambda: [second.url], "never mind", run_id=waiting)
        async with second.client() as client:
            reading = asyncio.create_task(reader.run(client))
            asked = time.monotonic()
            await client.post(f"/runs/{waiting}/cancel")
            await asyncio.wait_for(reading, 5)
            assert time.monotonic() - asked < 1
            assert (reader.outcome, reader.visible_errors) == ("cancelled", [])
            assert (await client.get(f"/runs/{going}")).json()["status"] == "running"
            await client.post(f"/runs/{going}/cancel")
        await ended(first, going)
        assert len(turns(model)) == 1


async def test_an_interrupting_question_cancels_the_one_before_it(database_url: str, model: FakeModel) -> None:
    model.script = Script(token_count=2_000, tokens_per_second=20)
    async with two_services(database_url, model, ON_BUSY="interrupt") as [first, second]:
        going = await ask(first, "a long one", "hasty")
        (turn,) = await until(lambda: turns(model))
        await turn.started.wait()
        model.script = Script(token_count=5)
        asked = time.monotonic()
        hasty = await ask(second, "no, this", "hasty")
        answer = await ended(second, hasty)
        took = time.monotonic() - asked

        assert (await ended(first, going))["outcome"] == "cancelled"
        assert turn.disconnected
        assert answer["answer"] == "".join(echo_tokens("no, this", 5))
        assert took < 2


async def leave_after(client: httpx.AsyncClient, url: str, characters: int) -> bool:
    """Whether so much came before the stream ended."""
    async with client.stream("GET", url) as response:
        read = 0
        async for chunk in response.aiter_bytes():
            read += len(chunk)
            if read > characters:
                return True
    return False


async def test_a_run_is_cancelled_when_its_last_reader_here_leaves_and_not_before(database_url: str, model: FakeModel) -> None:
    model.script = Script(token_count=2_000, tokens_per_second=50)
    async with two_services(database_url, model, ON_DISCONNECT="cancel") as services:
        for number, service in enumerate(services):
            # The second reads the stream of a run that executes on the first.
            run_id = await ask(services[0], "who listens?", f"left-{number}")
            async with service.client() as client:
                stayed = asyncio.create_task(leave_after(client, f"/runs/{run_id}/stream", 12_000))
                assert await leave_after(client, f"/runs/{run_id}/stream", 3_000)
                assert not stayed.done()
                assert await stayed, "the first to leave took the run along"
            assert (await ended(service, run_id))["outcome"] == "cancelled"
            assert turns(model)[number].disconnected


async def test_without_notices_readers_cancels_and_the_queue_still_work(database_url: str, model: FakeModel) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA mute")
        conn.execute("CREATE FUNCTION mute.pg_notify(text, text) RETURNS void LANGUAGE sql AS ''")
    # What a transaction pooler does to LISTEN: it succeeds, and nothing ever comes.
    muted = make_conninfo(database_url, options="-c search_path=mute,pg_catalog,public")
    model.script = Script(token_count=30, tokens_per_second=30)
    async with two_services(muted, model, ON_BUSY="enqueue") as [first, second]:
        run_id = await ask(first, "hello", "silent")
        queued = await ask(second, "and again", "silent")
        readers = [Reader(lambda: [second.url], "", run_id=run_id), Reader(lambda: [first.url], "", run_id=queued)]
        async with second.client() as client:
            await asyncio.gather(*(reader.run(client) for reader in readers))
            assert [r.text for r in readers] == ["".join(echo_tokens(q, 30)) for q in ("hello", "and again")]
            assert [(r.outcome, r.visible_errors) for r in readers] == [("completed", [])] * 2

            model.script = Script(token_count=2_000, tokens_per_second=20)
            long = await ask(first, "stop me", "silent")
            asked = time.monotonic()
            await client.post(f"/runs/{long}/cancel")
            assert (await ended(second, long))["outcome"] == "cancelled"
            assert time.monotonic() - asked < 1
