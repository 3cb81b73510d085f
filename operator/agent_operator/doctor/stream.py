"""One answer as a stream, with the moment at which each of its events arrived: a proxy that buffers shows."""

import itertools
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from agent_operator.checks.finding import Verdict, fail, ok, unknown

TELLING_SECONDS = 0.5
"""Of a run on the server: with a shorter one, an answer that comes in one piece may just have been quick."""

SHARE = 0.5
"""Of the run's time: an open stream begins at once and ends with the run, a buffered one begins when the run has ended."""


@dataclass(frozen=True, slots=True)
class Event:
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
    def done(self) -> bool:
        return bool(self.events) and self.events[-1].data == "[DONE]"

    @property
    def run_id(self) -> str:
        return self.events[0].id.rsplit("-", 2)[0] if self.events else ""

    @property
    def session_id(self) -> str:
        """Of the event `run`, which comes first."""
        for event in self.events:
            if event.kind == "run":
                return str(json.loads(event.data).get("session_id", ""))
        return ""

    @property
    def first_text(self) -> float | None:
        return next((event.at for event in self.events if event.kind == "message" and event.data != "[DONE]"), None)

    @property
    def longest_gap(self) -> float:
        times = [event.at for event in self.events]
        return max((after - before for before, after in itertools.pairwise(times)), default=0.0)


async def record(client: httpx.AsyncClient, url: str, **options: Any) -> Recording:
    """Reads the stream of a GET; what breaks it is in `broken`."""
    recording = Recording()
    sent = time.perf_counter()
    try:
        async with client.stream(
            "GET", url, headers={"Accept": "text/event-stream", **options.pop("headers", {})}, **options
        ) as response:
            recording.status, recording.headers = response.status_code, {k.lower(): v for k, v in response.headers.items()}
            if not response.is_success or "text/event-stream" not in recording.headers.get("content-type", ""):
                recording.body = (await response.aread()).decode(errors="replace")
                return recording
            async for event in _events(response, sent):
                recording.events.append(event)
    except httpx.HTTPError as error:
        recording.broken = f"{type(error).__name__} {error}".rstrip()
    return recording


async def _events(response: httpx.Response, sent: float) -> AsyncIterator[Event]:
    fields: dict[str, list[str]] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
        elif fields:
            if "data" in fields:
                kind = fields.get("event", ["message"])[-1]
                yield Event(time.perf_counter() - sent, fields.get("id", [""])[-1], kind, "\n".join(fields["data"]))
            fields = {}


def judge_stream(recording: Recording, run_seconds: float | None) -> Verdict:
    """`run_seconds` is how long the run took on the server; None when it could not be asked."""
    if recording.status >= 400:  # noqa: PLR2004  # HTTP status codes need no second name
        return fail(
            "StreamRefused",
            f"HTTP {recording.status}: {recording.body[:200]}",
            "docs/operations/troubleshooting.md has each code",
        )
    if not recording.done:
        fix = "raise the proxy's idle time above 15 s and its total time above MAX_TURN_SECONDS"
        return fail("StreamCut", recording.broken or recording.body[:200] or "it ended without [DONE]", fix)
    if encoding := recording.headers.get("content-encoding"):
        return fail("Compressed", f"a proxy compresses the stream ({encoding})", "leave text/event-stream out of compression")
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
