"""Model and load against each other, over real connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from bench.client import Connection, Refused, Turn, WrongAnswer, agent_event
from bench.load import Target, check, closed_loop, together
from bench.model import Connection as ModelConnection
from bench.script import Ask


@asynccontextmanager
async def model() -> AsyncIterator[str]:
    server = await asyncio.get_running_loop().create_server(ModelConnection, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


@asynccontextmanager
async def saying(answer: bytes) -> AsyncIterator[Target]:
    """A server that gives one answer to whatever is asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Target(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")


def sse(*blocks: str) -> bytes:
    body = "".join(f"{block}\n\n" for block in blocks).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def ask(target: Target, question: Ask) -> Turn:
    async with await Connection.open(target.url) as connection:
        return await target.ask(connection, question)


def test_a_question_says_all_of_itself() -> None:
    for question in (Ask(number=3), Ask(7, 50, 2, tool=True, number=9)):
        assert Ask.parse(question.question) == question
    assert Ask.parse("what is a lease?") is None


def test_no_two_questions_have_the_same_answer() -> None:
    assert len({Ask(number=number).text for number in range(500)}) == 500
    assert len(set(Ask(tokens=100).answer)) == 100


async def test_the_direct_line_brings_every_token() -> None:
    async with model() as url:
        turns = await closed_loop(Target(url, direct=True), 3, 0.05, lambda number: Ask(number=number))
    assert len(turns) >= 3
    assert all(turn.complete and 0 < turn.first <= turn.total for turn in turns)


async def test_paced_tokens_come_one_by_one() -> None:
    async with model() as url:
        [turn] = await together(Target(url, direct=True), [Ask(5, 100)], 0)
    assert len(turn.reads) == 5
    assert sum(turn.gaps()) >= 0.03


async def test_the_model_calls_the_tool_it_is_offered_then_answers() -> None:
    question = Ask(tool=True)
    messages = [{"role": "user", "content": question.question}]
    async with model() as url, httpx.AsyncClient() as client:
        payload = {"model": "m", "messages": messages, "stream": True, "tools": [{}], "stream_options": {"include_usage": True}}
        called = (await client.post(f"{url}/chat/completions", json=payload)).text
        payload["messages"] = [*messages, {"role": "tool", "tool_call_id": "call_0", "content": "found"}]
        answered = (await client.post(f"{url}/chat/completions", json=payload)).text
        plain = (await client.post(f"{url}/chat/completions", json={"model": "m", "messages": messages})).json()
        unknown = await client.get(f"{url}/else")
    assert '"name":"lookup"' in called
    assert '"finish_reason":"tool_calls"' in called
    assert '"completion_tokens":50' in answered
    assert plain["choices"][0]["message"]["content"] == question.text
    assert unknown.status_code == 404


@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        (["data: x", "data: [DONE]"], "from 0 on"),
        ([f"data: {Ask().text[:-2]}", "data: [DONE]"], "248 characters of 250"),
        ([f"data: {Ask().text}x", "data: [DONE]"], "251 characters of 250"),
        ([f"data: {Ask().text}"], r"without \[DONE\]"),
        (["data: [DONE]"], "0 characters of 250"),
    ],
)
async def test_a_character_that_is_wrong_or_missing_is_an_error(blocks: list[str], reason: str) -> None:
    async with saying(sse(*blocks)) as target:
        with pytest.raises(WrongAnswer, match=reason):
            await ask(target, Ask())


async def test_an_answer_in_pieces_and_between_named_events_is_one_text() -> None:
    text = Ask().text
    blocks = [
        "event: run\ndata: {}",
        f"id: 1-1-1\ndata: {text[:7]}",
        ": heartbeat",
        f"id: 1-1-2\ndata: {text[7:]}",
        "data: [DONE]",
    ]
    async with saying(sse(*blocks)) as target:
        turn = await ask(target, Ask())
    assert turn.event_id == "1-1-2"


async def test_what_is_no_answer_is_told_as_such() -> None:
    async with saying(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy") as target:
        with pytest.raises(Refused, match="status 503: busy"):
            await ask(target, Ask())
    async with saying(sse('event: error\ndata: {"code": "internal"}')) as target:
        with pytest.raises(Refused, match="internal"):
            await ask(target, Ask())
    async with saying(sse("data: x")[:-3]) as target:
        with pytest.raises(ConnectionError):
            await ask(target, Ask())


async def test_a_reader_may_leave_and_come_back() -> None:
    text = Ask(tokens=4).text
    turn = Turn()
    before = sse(f"id: 1-1-1\ndata: {text[:5]}", f"id: 1-1-2\ndata: {text[5:10]}")
    async with saying(before) as target, await Connection.open(target.url) as connection:
        await connection.stream("/", turn=turn, enough=lambda turn: len(turn.reads) > 0)
    after = sse(f"id: 1-1-3\ndata: {text[10:]}", "data: [DONE]")
    async with saying(after) as target, await Connection.open(target.url) as connection:
        await connection.stream("/", turn=turn)
    assert check(turn, Ask(tokens=4)) is turn


def test_a_reset_replaces_what_was_said() -> None:
    turn = Turn(text="old and broken")
    assert agent_event(b'id: 1-2-1\nevent: reset\ndata: {"text": "old "}', turn) is None
    assert turn.text == "old "
    assert turn.event_id == "1-2-1"
