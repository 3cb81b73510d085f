"""Runs that execute in this process: their events in memory, and who waits for the next one."""

import asyncio
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self
from uuid import UUID

import orjson
from langgraph.runtime import RunControl

from agent_service.runs.model import Ending, Event, EventKind, HandOver, ModelCall, Position, Run
from agent_service.runs.steps import Steps
from agent_service.tracing.spans import UNTRACED

StopReason = Literal["cancel", "hand_over", "lost", "refused"]
"""`refused`: the database does not take what the run stores."""

DONE_MARK = "[DONE]"
"""The wire's last unnamed event; an answer that contains it is split so that no event's text equals it."""

MAX_CUSTOM_BYTES = 65_536
"""Of one custom event: progress and partial results, not files; each is kept in the log and sent to every reader."""

TEXT_CHARS = 4_096
"""Of text in one event: an answer that comes as a whole is cut, so that logs and streams can hold a part of it."""

PAGE_EVENTS = 256
"""Events that a reader takes at once: thousands may wait for one who comes late."""

MAX_JSON_INTEGER = 2**63 - 1
"""orjson refuses larger ones, and readers in JavaScript would round them."""

MAX_JSON_DEPTH = 100
"""orjson stops at 254 levels; nothing that a person reads is that deep."""


class LiveRun:
    """One attempt at a run. Readers on this process are fed from `events`, with no database in the path.

    Not thread-safe: publish from the event loop only.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.events: list[Event] = []
        self.calls: list[ModelCall] = []
        self.logged_events = 0
        self.logged_calls = 0
        self.ended = False
        self.done = False
        self.text: list[tuple[str, str]] = []
        """Pieces of the answer with their source: what is produced again can be taken out."""
        """Events up to the last one that changed the answer."""
        self.route: str | None = None
        self.trace = UNTRACED
        self.stop: StopReason | None = None
        self.task: asyncio.Task[None] | None = None
        self.started = False
        self.control = RunControl()
        """Of LangGraph: asks it to stop at the end of a step."""
        self.steps = Steps()
        """Of the graph's state: what the next commit takes."""
        self.saving: Steps | None = None
        """What the commit under way has taken."""
        self.ending: Ending | HandOver | None = None
        """How it is to end; set once, and its outcome is what the database has of it."""
        self.fresh = False
        """Its session is new, so the graph had no state before it."""
        self.put_state = False
        """The graph has put some."""
        self.forgivable = True
        """Should it be lost to a peer: whether the crash that was counted for it may be taken back. Set by the watchdog."""
        self.advanced = False
        """This attempt has stored the end of a step: what it met, it survived."""
        self._wakers: set[asyncio.Event] = set()

    @property
    def stopped(self) -> bool:
        """True once the run is not to go on here."""
        return self.stop is not None

    def halt(self, reason: StopReason) -> None:
        """Stops it, unless it has stopped or said its last. What it still writes is for its task to say."""
        if self.stop is None and self.task and not self.closing:
            self.stop = reason
            if self.started:  # a task that is cancelled before its first step never gets to end its run
                self.task.cancel()

    @property
    def unwritten(self) -> bool:
        return bool(self.steps or self.saving) or self.logged_events < len(self.events) or self.logged_calls < len(self.calls)

    @property
    def answer(self) -> str:
        return "".join(piece for _, piece in self.text)

    def publish(self, kind: EventKind, payload: Any, node: str = "") -> None:
        if self.closing:
            return  # a sync node may outlive its run
        payload = payload if kind == "text" else storable(payload)
        self.events.append(Event(self.run.attempt, len(self.events) + 1, kind, node, payload))
        for waker in self._wakers:
            waker.set()

    def publish_text(self, text: str, source: str) -> None:
        """A piece of the answer. `source` is the node, `#`, and a number that tells calls which speak at the same time apart."""
        # SSE cannot carry a bare CR: its reader would see a newline. One form for the wire, the log and the answer.
        text = storable(text.replace("\r\n", "\n").replace("\r", "\n"))
        self.text.append((source, text))
        for start in range(0, max(1, len(text)), TEXT_CHARS):
            piece = text[start : start + TEXT_CHARS]
            if piece == DONE_MARK:
                self.publish("text", piece[:1], source)
                piece = piece[1:]
            self.publish("text", piece, source)

    def end_message(self, message_id: str, source: str) -> None:
        """The source's text is that message: a recovery keeps the messages that a checkpoint holds."""
        self.publish("message", message_id, source)

    def drop_text(self, source: str) -> None:
        """Takes the source's text out of the answer: it is being produced again."""
        self.reset([piece for piece in self.text if piece[0] != source], source)

    def reset(self, text: list[tuple[str, str]], source: str = "") -> None:
        """Puts these pieces in the answer's place; without the blank line that parted the first from what is gone."""
        self.text = [(text[0][0], text[0][1].lstrip("\n")), *text[1:]] if text else []
        self.publish("reset", {"text": self.answer}, source)

    def release(self, *, done: bool) -> None:
        """Lets readers go: to the end, or (a run that was handed over or lost) back to the log."""
        self.done = done
        self.ended = True
        for waker in self._wakers:
            waker.set()

    def since(self, position: Position) -> list[Event]:
        """The next page after a position; the last event only once the outcome is stored: who has seen the end may ask again."""
        if position.attempt > self.run.attempt:
            return []
        start = position.seq if position.attempt == self.run.attempt else 0
        new = self.events[start : start + PAGE_EVENTS]
        return new[:-1] if new and new[-1].kind == "end" and not self.done else new

    @property
    def closing(self) -> bool:
        """True once the last event is published; its outcome may still be on its way to the database."""
        return bool(self.events) and self.events[-1].kind == "end"

    @property
    def watched(self) -> bool:
        return bool(self._wakers)

    def watch(self) -> "Watch":
        return Watch(self._wakers)


class Watch:
    """A reader's wake-up call: `with live.watch() as watch: await watch.changed(seconds)`."""

    def __init__(self, wakers: set[asyncio.Event]) -> None:
        self._wakers = wakers
        self._event = asyncio.Event()

    def __enter__(self) -> Self:
        self._wakers.add(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        self._wakers.discard(self._event)

    async def changed(self, seconds: float) -> bool:
        """Waits for the next event; False after so many seconds of silence."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


def bounded(value: Any) -> Any:
    """What a graph says to its readers (`get_stream_writer`) as JSON; of what is too large, how large it is."""
    plain = storable(value)
    size = len(orjson.dumps(plain))
    return plain if size <= MAX_CUSTOM_BYTES else {"too_large_bytes": size}


def storable(value: Any, depth: int = MAX_JSON_DEPTH) -> Any:
    """The value as JSON that PostgreSQL and every reader take: no NUL, no half surrogate pair, no integer over 64 bits,
    no NaN, no deep nesting; other things as their text."""
    if isinstance(value, str):
        plain = value.isascii() and "\0" not in value
        return value if plain else value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, Mapping) and depth:
        return {str(storable(str(key))): storable(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple) and depth:
        return [storable(item, depth - 1) for item in value]
    return value if value is None or _is_json_number(value) else storable(str(value))


def _is_json_number(value: Any) -> bool:
    """A bool, too: for Python it is an int."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and abs(value) <= MAX_JSON_INTEGER


class LiveRuns:
    """The live runs of this process by id, and who reads the log of which runs, wherever these execute."""

    def __init__(self) -> None:
        self._runs: dict[UUID, LiveRun] = {}
        self._readers: dict[UUID, set[asyncio.Event]] = {}

    def watch_log(self, run_id: UUID) -> "Watch":
        """Wakes when the log may have news of that run."""
        # Those of runs that nobody reads any more go with the next reader of any run.
        for idle in [run for run, wakers in self._readers.items() if not wakers]:
            del self._readers[idle]
        return Watch(self._readers.setdefault(run_id, set()))

    def is_watched(self, run_id: UUID) -> bool:
        """Whether anybody follows the run on this process."""
        live = self._runs.get(run_id)
        return bool((live and live.watched) or self._readers.get(run_id))

    def tell(self, run_id: UUID) -> None:
        for waker in self._readers.get(run_id, ()):
            waker.set()

    def tell_all(self) -> None:
        for run_id in self._readers:
            self.tell(run_id)

    def add(self, run: Run) -> LiveRun:
        live = LiveRun(run)
        self._runs[run.id] = live
        return live

    def discard(self, live: LiveRun) -> None:
        if self._runs.get(live.run.id) is live:
            del self._runs[live.run.id]

    def get(self, run_id: UUID) -> LiveRun | None:
        return self._runs.get(run_id)

    def __iter__(self) -> Iterator[LiveRun]:
        return iter(list(self._runs.values()))

    def __len__(self) -> int:
        return len(self._runs)
