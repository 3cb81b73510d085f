"""What one attempt at a run has said so far, in memory, and who waits for the next of it."""

import asyncio
import math
from typing import Literal, Self

from agent_service.runs import events
from agent_service.runs.events import HIDDEN_KINDS, Event, EventKind, News, Position, storable

DONE_MARK = "[DONE]"
"""The wire's last unnamed event; an answer that contains it is split so that no event's text equals it."""

TEXT_CHARS = 4_096
"""Of text in one event: an answer that comes as a whole is cut, so that logs and streams can hold a part of it."""

GATHER_SECONDS = 0.01
"""Least time between two pages of a reader, but for the first text and the end, which go at once: under what anyone notices."""

LATER_SECONDS = 0.04
"""How long news of LATER_KINDS may wait for others: a node that lights up so much later is not seen to be late."""

LATER_KINDS: frozenset[EventKind] = frozenset({"node", "usage"})
"""What mostly comes just before something that a reader waits for: the first text, the end. It goes along with that."""

PAGE_EVENTS = 256
"""Events that a reader takes at once: thousands may wait for one who comes late."""


class EventBuffer:
    """The events of one attempt, and the answer that they make. Readers on this process have no database in their path.

    Not thread-safe: publish from the event loop only.
    """

    __slots__ = ("_watches", "attempt", "events", "state", "text")

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.events: list[Event] = []
        self.text: list[tuple[str, str]] = []
        """Pieces of the answer with their source: what is produced again can be taken out."""
        self.state: Literal["open", "closed", "stored", "left"] = "open"
        """`closed`: its last event is here, and is shown to nobody before the run's outcome is `stored`. `left`: readers go on
        from the log, as the run was handed over or lost."""
        self._watches: set[Watch] = set()

    @property
    def answer(self) -> str:
        """The answer so far, in the order of its messages."""
        return "".join(piece for _, piece in self.text)

    def publish(self, news: News, *, now: bool = False) -> None:
        """`now`: readers are not to wait for more."""
        if self.state != "open":
            return  # a sync node may outlive its run
        self.events.append(Event(self.attempt, len(self.events) + 1, news.kind, news.node, news.payload))
        if news.kind == "end":
            self.state = "closed"
        if news.kind not in HIDDEN_KINDS:
            self._wake("now" if now else "later" if news.kind in LATER_KINDS else "soon")

    def publish_text(self, text: str, source: str) -> None:
        """A piece of the answer. `source` is the node, `#`, and a number that tells calls which speak at the same time apart."""
        # SSE cannot carry a bare CR: its reader would see a newline. One form for the wire, the log and the answer.
        text = storable(text.replace("\r\n", "\n").replace("\r", "\n"))
        first = not self.text
        self.text.append((source, text))
        for start in range(0, max(1, len(text)), TEXT_CHARS):
            piece = text[start : start + TEXT_CHARS]
            if piece == DONE_MARK:
                self.publish(events.text(piece[:1], source))
                piece = piece[1:]
            self.publish(events.text(piece, source), now=first)

    def drop_text(self, source: str) -> None:
        """Takes the source's text out of the answer: it is being produced again."""
        self.reset([piece for piece in self.text if piece[0] != source], source)

    def reset(self, text: list[tuple[str, str]], source: str = "") -> None:
        """Puts these pieces in the answer's place; without the blank line that parted the first from what is gone."""
        self.text = [(text[0][0], text[0][1].lstrip("\n")), *text[1:]] if text else []
        self.publish(events.reset(self.answer, source))

    def release(self, *, stored: bool) -> None:
        """Lets readers go: to the end, or back to the log."""
        self.state = "stored" if stored else "left"
        self._wake("now")

    def since(self, position: Position) -> list[Event]:
        """The next page after a position; the last event only once the outcome is stored: who has seen the end may ask again."""
        if position.attempt > self.attempt:
            return []
        start = position.seq if position.attempt == self.attempt else 0
        new = self.events[start : start + PAGE_EVENTS]
        return new[:-1] if new and new[-1].kind == "end" and self.state != "stored" else new

    @property
    def watched(self) -> bool:
        """Whether anybody reads it on this process."""
        return bool(self._watches)

    def watch(self) -> "Watch":
        """Wakes with each event; see Watch."""
        return Watch(self._watches)

    def _wake(self, pace: "Pace") -> None:
        for watch in self._watches:
            watch.wake(pace)


Pace = Literal["now", "soon", "later"]
"""How long news may wait for more of it: not at all, GATHER_SECONDS since the last page, LATER_SECONDS."""


class Watch:
    """A reader's wake-up call: `with buffer.watch() as watch: await watch.changed(seconds)`.

    News waits a little for more of it, by its Pace: what wakes a reader makes a write to a socket, which costs as much CPU as
    ten events.
    """

    __slots__ = ("_due", "_gathered", "_gathering", "_loop", "_news", "_silence", "_silent", "_waiting", "_watches")

    def __init__(self, watches: "set[Watch]") -> None:
        self._watches = watches
        self._loop = asyncio.get_running_loop()
        self._news = False
        self._waiting: asyncio.Future[None] | None = None
        """For news. An asyncio.Event, made for many that wait, takes 800 bytes of each stream."""
        self._gathered = 0.0
        """When, by the loop's clock, news that comes soon need not wait."""
        self._due = math.inf
        """When what has come is to wake the reader."""
        self._silent = 0.0
        """When the reader is to be told that nothing has come."""
        self._gathering: asyncio.TimerHandle | None = None
        self._silence: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._watches.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._watches.discard(self)
        for timer in (self._gathering, self._silence):
            if timer:
                timer.cancel()

    def wake(self, pace: Pace) -> None:
        """There is news."""
        now = self._loop.time()
        due = now if pace == "now" else self._gathered if pace == "soon" else now + LATER_SECONDS
        if due <= now:
            self._tell()
        elif due < self._due:
            if self._gathering:
                self._stop_gathering(self._gathering)
            self._due, self._gathering = due, self._loop.call_at(due, self._tell)

    async def changed(self, seconds: float) -> bool:
        """Waits for the next event; False after so many seconds of silence."""
        self._silent = self._loop.time() + seconds
        if self._silence is None:  # one timer for many waits: it looks itself whether it is time
            self._silence = self._loop.call_at(self._silent, self._end_silence)
        if not self._news:
            self._waiting = self._loop.create_future()
            await self._waiting
        self._news = False
        if self._gathering:
            self._stop_gathering(self._gathering)
        now = self._loop.time()
        self._gathered = now + GATHER_SECONDS
        return now < self._silent

    def _tell(self) -> None:
        self._news = True
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(None)

    def _stop_gathering(self, timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        self._due, self._gathering = math.inf, None

    def _end_silence(self) -> None:
        self._silence = None
        if self._loop.time() >= self._silent:
            self._tell()
        else:
            self._silence = self._loop.call_at(self._silent, self._end_silence)
