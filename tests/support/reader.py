"""A client as a careful user would write it: asks once, reconnects to any replica, and checks what it is told."""

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import uuid4

import httpx

from tests.support import sse

RETRY_SECONDS = 0.1


@dataclass
class Reader:
    """Asks a question of the replicas at `urls` (or joins `run_id`) and reads the answer to its end."""

    urls: Callable[[], list[str]]
    question: str
    offset: int = 0
    text: str = ""
    outcome: str = ""
    run_id: str = ""
    attempts: int = 0
    resets: int = 0
    errors: list[str] = field(default_factory=list)
    visible_errors: list[str] = field(default_factory=list)
    """What a person would have seen: refused questions, error events, gaps, ids that do not grow."""
    kept: list[str] = field(default_factory=list)
    """What each `reset` left standing."""
    longest_silence: float = 0.0
    """Seconds without a word, from the first connection on."""
    first_word_seconds: float = 0.0
    reconnects: int = 0
    """How often a server said that it is going away."""
    _last_id: str = ""

    async def run(self, client: httpx.AsyncClient) -> "Reader":
        if not self.run_id:
            await self._ask(client)
        heard = opened = time.monotonic()
        for url in self._rotation():
            try:
                async for event in sse.iterate(client, "GET", f"{url}/runs/{self.run_id}/stream", headers=self._headers()):
                    if event.event == "message":
                        self.longest_silence = max(self.longest_silence, time.monotonic() - heard)
                        heard = time.monotonic()
                        self.first_word_seconds = self.first_word_seconds or heard - opened
                    if self._take(event.event, event.data, event.id):
                        return self
            except (httpx.HTTPError, ExceptionGroup) as error:
                self.errors.append(repr(error))
            await asyncio.sleep(RETRY_SECONDS)
        return self

    async def _ask(self, client: httpx.AsyncClient) -> None:
        headers = {"Prefer": "respond-async", "Idempotency-Key": uuid4().hex}
        for url in self._rotation():
            try:
                response = await client.post(f"{url}/chat", json={"question": self.question}, headers=headers)
            except httpx.HTTPError as error:
                self.errors.append(repr(error))
            else:
                if response.status_code == 202:
                    self.run_id = response.json()["run_id"]
                    return
                if response.status_code != 503:
                    self.visible_errors.append(response.text)
                    return
            await asyncio.sleep(RETRY_SECONDS)

    def _rotation(self) -> Iterator[str]:
        for n in itertools.count(self.offset):
            urls = self.urls()
            yield urls[n % len(urls)]

    def _headers(self) -> dict[str, str]:
        return {"Last-Event-ID": self._last_id} if self._last_id else {}

    def _take(self, name: str, data: str, event_id: str) -> bool:
        """True at the end."""
        if event_id and name != "reconnect":  # which has none of its own: parsers show the last one again
            if self._last_id and sse.parse_id(event_id) <= sse.parse_id(self._last_id):
                self.visible_errors.append(f"{event_id} after {self._last_id}")
            self._last_id = event_id
        match name:
            case "message" if data == "[DONE]":
                return True
            case "message":
                self.text += data
            case "run":
                self.attempts = json.loads(data)["attempt"]
            case "reset":
                self.resets += 1
                self.text = json.loads(data)["text"]
                self.kept.append(self.text)
            case "error" | "gap":
                self.visible_errors.append(f"{name}: {data}")
            case "reconnect":
                self.reconnects += 1
            case "usage":
                self.outcome = json.loads(data)["outcome"]
        return False
