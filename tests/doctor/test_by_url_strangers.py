"""What answers doctor need not be Slipway: what it reads is bounded in bytes and in time, and what it prints is plain."""

import asyncio
import gzip
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from slipway_clients.cluster.proxy import PRINTED, _Bounded
from slipway_clients.egress.client import terminals_client
from slipway_doctor import by_url, stream
from slipway_doctor.by_url import Target, examine
from slipway_doctor.checks.finding import Area, Finding, Status
from slipway_doctor.errors import CouldNotRun
from slipway_doctor.report import LONGEST, cleaned
from slipway_doctor.stream import Recording, judge_stream, record
from tests.clients.test_egress import Stranger, Write, dripping, endless, endless_header, said, serving, silent

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"

MOST_MEMORY = 10 << 20
"""Bytes, of a stream of which a megabyte is kept."""


def pouring(piece: bytes, *, size: int = 0x10000) -> Write:
    """A stream without an end, in chunks of `size`."""

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + b"Transfer-Encoding: chunked\r\n\r\n")
        body = piece * (size // len(piece))
        chunks = b"%x\r\n%s\r\n" % (len(body), body) * max(1, 0x10000 // size)
        while True:
            writer.write(chunks)
            await writer.drain()

    return write


BOMB = gzip.compress(b"data: x\n\n" * (4 << 20))


async def bomb(writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB)
    await writer.drain()


async def elsewhere(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


@asynccontextmanager
async def meeting(answer: Write) -> AsyncIterator[tuple[Stranger, httpx.AsyncClient]]:
    stranger = Stranger()
    stranger.answer = answer
    async with serving(stranger), terminals_client() as client:
        yield stranger, client


@pytest.mark.parametrize("answer", [endless, endless_header, dripping, silent, elsewhere, said(b"[" * 100_000), said(b"null")])
async def test_a_call_ends_without_a_report_whatever_answers(answer: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_url, "TIMEOUT", 0.5)
    began = time.monotonic()
    async with meeting(answer) as (stranger, client):
        with pytest.raises(CouldNotRun):
            await examine(Target(stranger.url, "t0ken"), client)

    assert time.monotonic() - began < 5
    assert len(stranger.requests) <= 1


STREAMS = {
    "bytes without a line": (pouring(b"x"), "bytes"),
    "bytes without a line, one by one": (pouring(b"x", size=1), "within"),
    "events": (pouring(b"data: x\n\n"), "events"),
    "events without data": (pouring(b"x\n\n"), "events"),
    "one event without an end": (pouring(b"data: x\n"), "bytes"),
    "no stream, slowly": (dripping, "within"),
    "silence": (silent, "within"),
    "a bomb": (bomb, ""),
}


@pytest.mark.parametrize(("answer", "told"), STREAMS.values(), ids=STREAMS)
async def test_a_stream_is_kept_up_to_a_limit(answer: Write, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BYTES", 1 << 20)
    monkeypatch.setattr(stream, "EVENTS", 1000)
    tracemalloc.start()
    try:
        async with meeting(answer) as (stranger, client):
            recording = await record(client, stranger.url, seconds=0.5 if told == "within" else 20, headers={})
        memory = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert told in recording.broken
    assert judge_stream(recording, None).status is Status.FAIL
    assert len(recording.events) <= 1000
    assert memory < MOST_MEMORY


async def test_a_redirect_of_a_stream_is_told_and_not_followed() -> None:
    async with meeting(elsewhere) as (stranger, client):
        recording = await record(client, stranger.url, seconds=5, headers={"Authorization": "Bearer t0ken"})

    assert judge_stream(recording, None).message.startswith("HTTP 302")
    assert len(stranger.requests) == 1


@pytest.mark.parametrize("event_id", ["", "x", "../../admin-1-1", "a b-1-1", "\u00e9-1-1", "-" * 1000])
async def test_an_id_that_is_none_of_the_services_leads_nowhere(event_id: str) -> None:
    body = f"id: {event_id}\nevent: run\ndata: [\n\ndata: [DONE]\n\n".encode()
    async with meeting(said(body, b"Content-Type: text/event-stream")) as (stranger, client):
        recording = await record(client, stranger.url, seconds=5, headers={})

    assert recording.run_id == ""


def test_what_is_printed_is_plain() -> None:
    hostile = "a\x1b]0;owned\x07\x9b2J\u202eb\r\nc" + "x" * 5000
    finding = cleaned(Finding("Ready", Area.HEALTH, Status.FAIL, "NotReady", hostile, hostile))

    for text in (finding.message, finding.fix):
        assert len(text) == LONGEST
        assert text.isprintable()


def test_a_command_in_a_pod_prints_up_to_a_limit() -> None:
    printed = _Bounded()
    printed.write(b"x" * PRINTED)

    with pytest.raises(OverflowError):
        printed.write(b"x")


def test_a_recording_without_an_answer_is_a_cut_stream() -> None:
    assert judge_stream(Recording(), None).reason == "StreamCut"
