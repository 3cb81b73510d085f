"""One answer as a stream, with the moment at which each of its events arrived: a proxy that buffers shows."""

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import httpx

from slipway_clients.egress.read import ReadError, pieces
from slipway_clients.egress.text import plain
from slipway_doctor.checks.finding import Verdict, fail, ok, unknown

TELLING_SECONDS = 0.5
"""Of a run on the server: with a shorter one, an answer that comes in one piece may just have been quick."""

BYTES, EVENTS = 16 << 20, 100_000
"""Of one stream that is kept: an answer of 10,000 words is 1.2 MB."""

BEGINNING = 1000
"""Bytes of an answer that is no stream: enough for its error."""

EVENT_ID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-[0-9]+-[0-9]+")

SHARE = 0.5
"""Of the run's time: an open stream begins at once and ends with the run, a buffered one begins when the run has ended."""


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event, and when it came."""

    at: float
    """Seconds since the request was sent."""
    id: str
    kind: str
    data: str


@dataclass(slots=True)
class Recording:
    """A stream that was read to its end, or to its break."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    """Of a response that is no stream."""
    events: list[Event] = field(default_factory=list)
    broken: str = ""

    @property
    def compressed(self) -> bool:
        """Whether a proxy has put a content encoding on it."""
        return self.headers.get("content-encoding", "identity").strip().lower() != "identity"

    @property
    def done(self) -> bool:
        """Whether it came to its end, `[DONE]`."""
        return bool(self.events) and self.events[-1].data == "[DONE]"

    @property
    def run_id(self) -> str:
        """Empty when the events have ids of another shape than the service's."""
        found = EVENT_ID.fullmatch(self.events[0].id) if self.events else None
        return found[1] if found else ""

    @property
    def first_text(self) -> float | None:
        """Seconds until the first word; None when none came."""
        return next((event.at for event in self.events if event.kind == "message" and event.data != "[DONE]"), None)

    @property
    def longest_gap(self) -> float:
        """Seconds of silence between two events."""
        times = [event.at for event in self.events]
        return max((after - before for before, after in itertools.pairwise(times)), default=0.0)


async def record(
    client: httpx.AsyncClient, url: str, *, seconds: float, headers: Mapping[str, str], params: Mapping[str, str] | None = None
) -> Recording:
    """Reads the stream of a GET for at most `seconds`; what breaks it is in `broken`."""
    recording = Recording()
    sent = time.perf_counter()
    # A proxy compresses only what may be compressed, and a browser lets it.
    asked = {**headers, "Accept": "text/event-stream", "Accept-Encoding": "gzip"}
    try:
        async with (
            asyncio.timeout(seconds),
            client.stream("GET", url, headers=asked, params=params, follow_redirects=False, timeout=seconds) as response,
        ):
            recording.status, recording.headers = response.status_code, {k.lower(): v for k, v in response.headers.items()}
            if recording.compressed:
                return recording  # not opened: a megabyte of it may be a thousand
            if not response.is_success or "text/event-stream" not in recording.headers.get("content-type", ""):
                recording.body = await _beginning(response)
                return recording
            async for event in _events(response, sent):
                recording.events.append(event)
    except TimeoutError:
        recording.broken = f"it did not end within {seconds:g} s"
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError, OSError, ReadError) as error:
        recording.broken = f"{type(error).__name__} {plain(error)}".rstrip()
    return recording


async def _beginning(response: httpx.Response) -> str:
    body = b""
    async for chunk in pieces(response, BYTES):
        body += chunk[:BEGINNING]
        if len(body) >= BEGINNING:
            break
    return plain(body[:BEGINNING].decode(errors="replace"), 200)


async def _events(response: httpx.Response, sent: float) -> AsyncIterator[Event]:
    fields: dict[str, list[str]] = {}
    count = 0
    async for line in _lines(response):
        if line:
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
        elif fields:
            count += 1
            if count > EVENTS:
                raise ReadError(f"more than {EVENTS} events")
            if "data" in fields:
                kind = fields.get("event", ["message"])[-1]
                yield Event(time.perf_counter() - sent, fields.get("id", [""])[-1], kind, "\n".join(fields["data"]))
            fields = {}


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """As they come; what has no end of line is put together once, however small its pieces."""
    begun = list[bytes]()
    async for chunk in pieces(response, BYTES):
        ended, *more = chunk.split(b"\n")
        begun.append(ended)
        for piece in more:
            yield b"".join(begun).removesuffix(b"\r").decode(errors="replace")
            begun = [piece]


def judge_stream(recording: Recording, run_seconds: float | None) -> Verdict:
    """`run_seconds` is how long the run took on the server; None when it could not be asked."""
    if recording.status >= 300:  # noqa: PLR2004  # HTTP status codes need no second name
        return fail(
            "StreamRefused",
            f"HTTP {recording.status}: {recording.body[:200]}",
            "docs/operations/troubleshooting.md has each code",
        )
    if recording.compressed:
        encoding = plain(recording.headers["content-encoding"], 20)
        return fail("Compressed", f"a proxy compresses the stream ({encoding})", "leave text/event-stream out of compression")
    if not recording.done:
        fix = "raise the proxy's idle time above 15 s and its total time above MAX_TURN_SECONDS"
        return fail("StreamCut", recording.broken or recording.body[:200] or "it ended without [DONE]", fix)
    return _judge_arrivals(recording, run_seconds)


def _judge_arrivals(recording: Recording, run_seconds: float | None) -> Verdict:
    first, last = recording.events[0].at, recording.events[-1].at
    took = run_seconds if run_seconds is not None else last
    spread = last - first
    text = recording.first_text
    figures = f"first event after {first:.2f} s, first text after {text or last:.2f} s, end after {last:.2f} s"
    if spread >= took * SHARE:
        return ok("Unbuffered", f"{figures}; longest gap {recording.longest_gap:.2f} s")
    if took < TELLING_SECONDS:
        fix = "ask for a longer answer with --question"
        return unknown("TooQuick", f"the run took {took:.2f} s, which is too short to tell buffering from speed", fix)
    fix = "nginx: proxy_buffering off; in other proxies turn off response buffering and compression for text/event-stream"
    return fail(
        "Buffered", f"the run took {took:.1f} s, all of its {len(recording.events)} events came within {spread:.2f} s", fix
    )


def judge_resume(first: Recording, again: Recording, after: int) -> Verdict:
    """`again` was asked for the events after the one with index `after`."""
    wanted = [(event.id, event.data) for event in first.events[after + 1 :]]
    got = [(event.id, event.data) for event in again.events]
    if got == wanted:
        return ok("NothingLost", "a reconnect continues after the last event, without a gap or a repeat")
    if again.status >= 400:  # noqa: PLR2004  # HTTP status codes need no second name
        return fail("ResumeRefused", f"HTTP {again.status}: {again.body[:200]}", "let the proxy pass the header Last-Event-ID")
    fix = "let the proxy pass the header Last-Event-ID; check that every replica uses the same database"
    return fail("EventsLost", f"a reconnect got {len(got)} events, {len(wanted)} were left", fix)
