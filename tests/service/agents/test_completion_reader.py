import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.client_proto import ResponseHandler

from agent_service.agents import completion_reader
from agent_service.agents.completion_reader import TICK_MILLISECONDS
from agent_service.agents.endpoint import PIECEMEAL_BYTES
from agent_service.agents.model_keys import ApiKeySource
from agent_service.errors import ModelRejected, ModelUnavailable
from tests.support.fake_model import FakeModel
from tests.support.fake_script import MODELS, Fault, FaultKind, Script, ToolCall, echo_tokens
from tests.support.model_client import open_client, text_of

TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
TICK_SECONDS = TICK_MILLISECONDS / 1000
ECHO = "".join(echo_tokens("hello"))


@pytest.fixture
async def fake() -> AsyncIterator[FakeModel]:
    async with FakeModel() as server:
        yield server


def key_files(folder: Path, **files: str) -> ApiKeySource:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return ApiKeySource(directory=folder)


async def test_a_stream_is_the_answer_then_the_finish_then_the_usage(fake: FakeModel) -> None:
    fake.script = Script(cached_tokens=1)
    async with open_client(fake) as client, await client.stream("one two three") as stream:
        chunks = [chunk async for chunk in stream]
    assert "".join(map(text_of, chunks)) == "".join(echo_tokens("one two three"))
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}
    assert client.counts == [("fake-1", "ok")]
    assert fake.requests[0].payload["stream_options"] == {"include_usage": True}


async def test_text_that_arrived_in_one_read_is_one_chunk(fake: FakeModel) -> None:
    fake.script = Script(token_count=500)
    async with open_client(fake) as client, await client.stream() as stream:
        await (await fake.request(0)).ended.wait()
        chunks = [chunk async for chunk in stream]
    assert "".join(map(text_of, chunks)) == "".join(echo_tokens("hello", 500))
    assert len(chunks) < 100


async def test_while_many_streams_are_open_tokens_gather_between_beats(fake: FakeModel) -> None:
    fake.script = Script(token_count=60, tokens_per_second=200)
    async with open_client(fake) as client:
        client.reader.beat.streams = 1000
        async with await client.stream() as stream:
            times = [(asyncio.get_running_loop().time(), chunk) async for chunk in stream]
    assert "".join(text_of(chunk) for _, chunk in times) == "".join(echo_tokens("hello", 60))
    text_times = [time for time, chunk in times if text_of(chunk)]
    # The first text waits for no beat, and on a busy machine one beat may come late; but no more come than the time has.
    assert len(text_times) - 1 <= (text_times[-1] - text_times[0]) / TICK_SECONDS + 2
    assert len(text_times) < 60
    assert client.reader.beat.streams == 1000


async def test_a_reader_that_is_busy_with_each_piece_gets_one_a_beat_all_the_same(fake: FakeModel) -> None:
    fake.script = Script(token_count=60, tokens_per_second=100)
    pieces = 0
    async with open_client(fake) as client:
        client.reader.beat.streams = 1000
        async with await client.stream() as stream:
            began = asyncio.get_running_loop().time()
            async for chunk in stream:
                pieces += bool(text_of(chunk))
                await asyncio.sleep(0.012)  # longer than a token takes to come
            seconds = asyncio.get_running_loop().time() - began
    assert pieces <= seconds / TICK_SECONDS + 3


async def test_what_comes_between_two_beats_waits_in_the_system_for_one_read(
    fake: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    read = ResponseHandler.data_received

    def counted(connection: ResponseHandler, data: bytes) -> None:
        if data:
            reads.append(len(data))
        read(connection, data)

    monkeypatch.setattr(ResponseHandler, "data_received", counted)
    fake.script = Script(token_count=60, tokens_per_second=200)
    async with open_client(fake) as client:
        client.reader.beat.streams = 1000
        async with await client.stream() as stream:
            began = asyncio.get_running_loop().time()
            async for _ in stream:
                pass
            seconds = asyncio.get_running_loop().time() - began
    assert len(reads) <= seconds / TICK_SECONDS + 5  # and the head, the first text, the end


async def test_a_connection_that_is_closed_between_two_beats_is_left_alone(fake: FakeModel) -> None:
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, error: errors.append(error))
    fake.script = Script(token_count=60, tokens_per_second=100)
    async with open_client(fake) as client:
        client.reader.beat.streams = 1000
        async with await client.stream() as stream:
            await anext(stream)
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            waiting.cancel()
        await asyncio.sleep(2 * TICK_SECONDS)  # the loop calls the beat before it ends this
        client.reader.beat.streams = 0
        assert await client.answer("again")
    assert errors == []


async def test_a_question_that_is_sent_piece_by_piece_arrives_whole(fake: FakeModel) -> None:
    question = "x" * (PIECEMEAL_BYTES + 500_000)
    fake.script = Script(tokens=["read"])
    async with open_client(fake) as client:
        assert await client.answer(question) == "read"
    assert fake.requests[0].payload["messages"][-1]["content"] == question


async def test_concurrent_streams_do_not_mix(fake: FakeModel) -> None:
    async with open_client(fake) as client:
        answers = await asyncio.gather(*(client.answer(f"question {n}") for n in range(20)))
    assert answers == ["".join(echo_tokens(f"question {n}")) for n in range(20)]


async def test_tool_calls_arrive_unmerged_and_whole(fake: FakeModel) -> None:
    fake.script = Script(tool_calls=[ToolCall(name="add", arguments={"a": 1, "text": "Grüße 🦜"}), ToolCall(name="add")])
    async with open_client(fake) as client, await client.stream(tools=TOOLS) as stream:
        deltas = [call async for chunk in stream for c in chunk["choices"] for call in c["delta"].get("tool_calls", [])]
    arguments = ["".join(d["function"]["arguments"] for d in deltas if d["index"] == index) for index in (0, 1)]
    assert arguments == ['{"a":1,"text":"Grüße 🦜"}', "{}"]


async def test_the_connection_is_used_again_after_a_whole_answer(fake: FakeModel) -> None:
    async with open_client(fake) as client:
        await client.answer()
        connector = client.endpoint.session.connector
        assert connector is not None
        kept = [protocol for held in connector._conns.values() for protocol, _ in held]
        await client.answer()
        assert [protocol for held in connector._conns.values() for protocol, _ in held] == kept != []


async def test_a_429_waits_as_long_as_it_asks_and_up_to_a_quarter_more(fake: FakeModel) -> None:
    fake.script = Script(faults=[Fault(kind="rate_limited", retry_after="7"), Fault(kind="rate_limited", retry_after="3600")])
    async with open_client(fake) as client:
        assert await client.answer() == ECHO
    assert client.pauses == [7.0 * 1.125, 30.0 * 1.125]
    assert client.statuses == ["rate_limited", "rate_limited", "ok"]


async def test_a_500_is_retried_with_growing_random_waits(fake: FakeModel) -> None:
    fake.script = Script(faults=[Fault(kind="server_error", times=3)])
    async with open_client(fake, share=0.5) as client:
        assert await client.answer() == ECHO
    assert client.pauses == [0.25, 0.5, 1.0]
    assert client.statuses == ["server_error"] * 3 + ["ok"]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("cut", "connection_error"),
        ("hang", "timeout"),
        ("slow_headers", "timeout"),
        ("malformed", "server_error"),
        ("stream_error", "server_error"),
    ],
)
async def test_a_failure_before_the_first_output_is_retried(fake: FakeModel, kind: FaultKind, status: str) -> None:
    fake.script = Script(faults=[Fault(kind=kind)])
    async with open_client(fake, model_timeout=0.3) as client:
        assert await client.answer() == ECHO
    assert client.statuses == [status, "ok"]


@pytest.mark.parametrize(
    ("kind", "status", "detail"),
    [
        ("cut", "connection_error", "connection"),
        ("hang", "timeout", r"silent for 0\.3 s"),
        ("malformed", "server_error", "malformed chunk"),
        ("stream_error", "server_error", "error inside the stream"),
    ],
)
async def test_a_failure_after_output_began_is_not_retried(fake: FakeModel, kind: FaultKind, status: str, detail: str) -> None:
    fake.script = Script(token_count=5, tokens_per_second=100, faults=[Fault(kind=kind, after_tokens=3)])
    texts: list[str] = []
    async with open_client(fake, model_timeout=0.3) as client:
        with pytest.raises(ModelUnavailable, match=detail) as caught:
            async with await client.stream() as stream:
                texts.extend([text_of(chunk) async for chunk in stream])
    assert caught.value.retryable
    assert "overloaded" not in caught.value.detail
    assert client.statuses == [status]
    assert len(fake.requests) == 1


async def test_an_endpoint_that_stays_down_is_unavailable_after_all_retries(fake: FakeModel) -> None:
    fake.script = Script(faults=[Fault(kind="server_error", times=99)])
    async with open_client(fake, model_max_retries=2) as client:
        with pytest.raises(ModelUnavailable, match="HTTP 500") as caught:
            await client.answer()
    assert len(fake.requests) == 3
    assert caught.value.retry_after == 5


async def test_a_refused_connection_is_retried_and_then_unavailable(fake: FakeModel, unused_tcp_port: int) -> None:
    fake.url = f"http://127.0.0.1:{unused_tcp_port}/v1"
    async with open_client(fake, model_max_retries=1) as client:
        with pytest.raises(ModelUnavailable, match="connection failed"):
            await client.answer()
    assert client.statuses == ["connection_error"] * 2


async def test_a_400_is_rejected_at_once_with_the_endpoints_message(fake: FakeModel) -> None:
    fake.script = Script(faults=[Fault(kind="bad_request")])
    async with open_client(fake) as client:
        with pytest.raises(ModelRejected, match=r"HTTP 400, fake\)"):
            await client.answer()
    assert client.statuses == ["client_error"]


async def test_a_new_key_file_is_used_from_the_next_attempt_on(fake: FakeModel, tmp_path: Path) -> None:
    async with open_client(fake, keys=key_files(tmp_path, current="sk-old")) as client:
        await client.answer()
        key_files(tmp_path, current="sk-newer")
        await client.answer()
    assert fake.keys == ["sk-old", "sk-newer"]


async def test_after_a_401_the_key_file_is_read_again_and_the_call_retried(fake: FakeModel, tmp_path: Path) -> None:
    fake.script = Script(accepted_keys={"sk-2"})
    keys = key_files(tmp_path, current="sk-1")
    keys.current()
    before = (tmp_path / "current").stat()
    key_files(tmp_path, current="sk-2")
    os.utime(tmp_path / "current", ns=(before.st_atime_ns, before.st_mtime_ns))
    async with open_client(fake, keys=keys) as client:
        assert await client.answer() == ECHO
    assert fake.keys == ["sk-1", "sk-2"]
    assert client.statuses == ["auth", "ok"]


async def test_after_a_401_the_previous_key_is_tried_while_it_stands(fake: FakeModel, tmp_path: Path) -> None:
    fake.script = Script(accepted_keys={"sk-1"})
    async with open_client(fake, keys=key_files(tmp_path, current="sk-2", previous="sk-1")) as client:
        assert await client.answer() == ECHO
    assert fake.keys == ["sk-2", "sk-2", "sk-1"]
    assert client.statuses == ["auth", "auth", "ok"]
    assert client.pauses == []


async def test_when_every_key_is_refused_the_error_names_none(fake: FakeModel, tmp_path: Path) -> None:
    fake.script = Script(accepted_keys=set())
    async with open_client(fake, keys=key_files(tmp_path, current="sk-2", previous="sk-1")) as client:
        with pytest.raises(ModelUnavailable, match="refused the key") as caught:
            await client.answer()
    assert "sk-" not in caught.value.detail
    assert client.statuses == ["auth"] * 3


async def test_a_cancelled_reader_closes_the_connection_at_once(fake: FakeModel) -> None:
    fake.script = Script(token_count=10_000, tokens_per_second=100)
    async with open_client(fake) as client:
        task = asyncio.create_task(client.answer())
        request = await fake.request(0)
        await request.started.wait()
        task.cancel()
        await asyncio.wait_for(request.ended.wait(), 2)
    assert request.disconnected


async def test_a_reader_cancelled_while_it_waits_for_headers_closes_too(fake: FakeModel) -> None:
    fake.script = Script(faults=[Fault(kind="slow_headers")])
    async with open_client(fake) as client:
        task = asyncio.create_task(client.answer())
        request = await fake.request(0)
        task.cancel()
        await asyncio.wait_for(request.ended.wait(), 2)
    assert request.disconnected


async def test_leaving_a_stream_early_closes_its_connection(fake: FakeModel) -> None:
    fake.script = Script(token_count=10_000, tokens_per_second=100)
    async with open_client(fake) as client:
        async with await client.stream() as stream:
            await anext(stream)
        await asyncio.wait_for(fake.requests[0].ended.wait(), 2)
    assert fake.requests[0].disconnected
    assert client.statuses == ["ok"]


async def test_the_fallback_answers_while_the_model_stays_down(fake: FakeModel) -> None:
    fake.script = Script(faults=[Fault(kind="server_error", model="fake-1", times=99)])
    async with open_client(fake, fallback="spare", model_max_retries=1) as client:
        assert await client.answer() == ECHO
        assert await client.answer() == ECHO
        assert fake.models == ["fake-1", "fake-1", "spare", "spare"]
        client.now[0] += 30.0
        fake.script = Script()
        await client.answer()
    assert fake.models[-1] == "fake-1"


async def test_the_fallback_does_not_continue_an_answer_that_began(fake: FakeModel) -> None:
    fake.script = Script(faults=[Fault(kind="cut", after_tokens=3)])
    async with open_client(fake, fallback="spare") as client:
        with pytest.raises(ModelUnavailable):
            await client.answer()
    assert fake.models == ["fake-1"]


async def test_a_rejected_request_does_not_go_to_the_fallback(fake: FakeModel) -> None:
    fake.script = Script(faults=[Fault(kind="bad_request")])
    async with open_client(fake, fallback="spare") as client:
        with pytest.raises(ModelRejected):
            await client.answer()
    assert fake.models == ["fake-1"]


async def test_without_stream_the_response_is_a_dict_also_by_way_of_raw_response(fake: FakeModel) -> None:
    messages = [{"role": "user", "content": "hello"}]
    async with open_client(fake) as client:
        direct: Any = await client.reader.create(model="fake-1", messages=messages)
        raw = await client.reader.with_raw_response.create(model="fake-1", messages=messages, extra_body={"top_k": 1})
    parsed: Any = raw.parse()
    assert direct["choices"][0]["message"]["content"] == ECHO == parsed.choices[0].message.content
    assert fake.requests[1].payload["top_k"] == 1
    assert client.statuses == ["ok", "ok"]


async def test_ping_is_silent_while_the_endpoint_answers(fake: FakeModel) -> None:
    async with open_client(fake) as client:
        await client.endpoint.ping()
        fake.script = Script(has_models=False)
        await client.endpoint.ping()
    assert client.counts == []


async def test_ping_tries_the_previous_key_as_calls_do(fake: FakeModel, tmp_path: Path) -> None:
    fake.script = Script(accepted_keys={"sk-1"})
    async with open_client(fake, keys=key_files(tmp_path, current="sk-2", previous="sk-1")) as client:
        await client.endpoint.ping()
        fake.script = Script(accepted_keys=set())
        with pytest.raises(ModelUnavailable, match="refused the key"):
            await client.endpoint.ping()


async def test_ping_raises_while_the_endpoint_fails_or_is_away(fake: FakeModel, unused_tcp_port: int) -> None:
    fake.script = Script(faults=[Fault(kind="server_error", model=MODELS)])
    async with open_client(fake) as client:
        with pytest.raises(ModelUnavailable, match="HTTP 500"):
            await client.endpoint.ping()
    fake.url = f"http://127.0.0.1:{unused_tcp_port}/v1"
    async with open_client(fake) as client:
        with pytest.raises(ModelUnavailable, match="does not answer"):
            await client.endpoint.ping()


async def test_the_first_text_waits_for_no_other_though_chunks_without_text_came_just_before(
    fake: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion_reader, "GATHER_SECONDS", 5.0)
    fake.script = Script(token_count=3, first_token_seconds=0.2)
    async with open_client(fake) as client, asyncio.timeout(4), await client.stream() as stream:
        while not text_of(await anext(aiter(stream))):
            pass
