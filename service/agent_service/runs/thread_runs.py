"""Runs of clients of LangGraph: what these do with them that a caller of Slipway's own API does not."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from agent_service.db.pool import Pool, connection, until_database_answers
from agent_service.errors import DatabaseUnavailable, NotFound, SessionBusy
from agent_service.principal import Principal
from agent_service.runs.event_log import EventLog
from agent_service.runs.events import Event
from agent_service.runs.extract import text_of
from agent_service.runs.live_run import LiveRuns
from agent_service.runs.notices import EVENTS_CHANNEL
from agent_service.runs.on_thread import OnThread
from agent_service.runs.run_rows import EXTERNAL_ID, UNDONE, WITHOUT_ANSWER, one
from agent_service.runs.run_types import Run, RunInput
from agent_service.runs.service import RunService
from agent_service.runs.undo import forget, let_go, roll_back
from agent_service.runs.writer import Writer
from agent_service.threads import lane

INPUT_RULES = "input rules"

CHARS_ON_LOOP = 20_000
"""Of text that the input rules look at on the loop: a team's worst rule takes a second for as many."""

THREAD_POLL_SECONDS = 3.0
"""How often a stream of a thread that is silent looks for a new run itself: where notices work it is told of each."""

STATUS_NAMES: Mapping[str, str] = {"queued": "pending", "running": "running"}
"""Of runs that are going, as clients of LangGraph name them."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Where a reader of a thread begins: with a run, behind one, or with the first since then; else with the first of all."""

    run: Run | None = None
    behind: Run | None = None
    since: datetime | None = None


class ThreadRuns:
    """Their way in, their state, their end. `values_at`: reads the state of a run's checkpoint, by its id and namespace."""

    def __init__(
        self,
        pool: Pool,
        runs: RunService,
        live: LiveRuns,
        events: EventLog,
        writer: Writer,
        values_at: Callable[[Run, str, Sequence[str]], Awaitable[Any]],
    ) -> None:
        self._pool = pool
        self._runs = runs
        self._live = live
        self._events = events
        self._writer = writer
        self._values_at = values_at
        self._leaving: set[asyncio.Task[None]] = set()

    async def start(
        self,
        principal: Principal,
        session_id: str,
        run_input: RunInput,
        *,
        graph: str,
        how: OnThread,
        listed: bool,
        written: object,
    ) -> Run:
        """Starts a run.

        Args:
            written: what of it people or models may have written: all text in it goes by the input rules.

        Raises:
            GuardrailBlocked, and whatever RunService.start_on_thread does
        """
        await self.check_texts(written)
        question = last_question(run_input.get("state"))
        return await self._runs.start_on_thread(principal, session_id, question, run_input, graph=graph, how=how, listed=listed)

    async def check_texts(self, given: object) -> None:
        """Raises GuardrailBlocked when an input rule refuses any text in it."""
        whole = "\n".join(text for text in texts_in(given) if text)
        if len(whole) <= CHARS_ON_LOOP:
            self._runs.refuse_bad_input(whole)
        else:  # rules take time in proportion to the text
            with lane(INPUT_RULES):  # beside the runs' own threads
                await asyncio.to_thread(self._runs.refuse_bad_input, whole)

    async def of_thread(self, thread_id: str, *, status: str | None, limit: int, offset: int) -> list[Run]:
        """Its runs, the newest first; `status`: as the clients name it."""
        values = {"thread": thread_id, "status": status, "limit": limit, "offset": offset}
        async with connection(self._pool) as conn:
            rows = await (await conn.execute(OF_THREAD.encode(), values)).fetchall()
        return [Run(**row) for row in rows]

    async def going(self, principal: Principal, *, status: str = "all", thread_id: str | None = None) -> list[Run]:
        """The principal's runs that have not ended, of a thread or of all, the oldest first; `status`: pending, running, all."""
        values = {"tenant": principal.tenant, "user": principal.user, "thread": thread_id}
        async with connection(self._pool) as conn:
            rows = await (await conn.execute(GOING.encode(), values)).fetchall()
        return [run for run in (Run(**row) for row in rows) if status in {"all", STATUS_NAMES[run.status]}]

    async def cancel(self, principal: Principal, runs: Sequence[Run], *, wait: bool, undo: bool = False) -> None:
        """Stops them; with `undo` what they did to the state is undone with their end, whoever ends them, and they are deleted.

        Raises SessionBusy: one had ended already, and another run of its thread has begun, which goes on from that state.
        """
        for run in runs:
            await self._runs.cancel(principal, run.id, undo=undo)
        if wait or undo:
            for run in runs:
                await self._runs.wait(principal, run.id)
        if undo:
            undone = await forget(self._pool, [str(run.id) for run in runs])
            for run in (run for run in runs if str(run.id) not in undone):  # it had ended before it was marked
                await roll_back(self._pool, run.thread_id, [str(run.id)])

    async def delete(self, run: Run) -> None:
        """The run with its events; what it did to the state stays. Raises SessionBusy while it is going."""
        async with connection(self._pool) as conn, conn.transaction():
            await let_go(conn, [str(run.id)])
            if await one(conn, DELETE, run.id) is None:
                raise SessionBusy("the run is going; cancel it first", retry_after=1)

    async def leave(self, run: Run, seconds: float) -> None:
        """Stops a run that its client has left, unless somebody reads it again within so many seconds, here or elsewhere."""
        task = asyncio.create_task(self._stop_unread(run, seconds), name=f"leave-{run.id}")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _stop_unread(self, run: Run, seconds: float) -> None:
        await asyncio.sleep(seconds)
        with suppress(DatabaseUnavailable, NotFound):
            if not (self._live.is_watched(run.id) or await self._events.watched(run.id)):
                await self._runs.cancel(run.principal, run.id)

    async def announce(self, thread_id: UUID) -> None:
        """Wakes those who follow the thread, here and elsewhere: a run has begun. Without it they look again themselves."""
        self._live.tell(thread_id)
        with suppress(DatabaseUnavailable):
            async with connection(self._pool) as conn:
                await conn.execute("SELECT pg_notify(%s, %s)", (EVENTS_CHANNEL, str(thread_id)))

    async def follow_thread(
        self, principal: Principal, thread_id: UUID, begin: Begin, *, idle: float
    ) -> AsyncIterator[tuple[Run | None, list[Event]]]:
        """Events of a thread's runs as they come, one run after another, without an end; none after `idle` silent seconds."""
        run = begin.behind
        following = begin.run
        heard = time.monotonic()
        with self._live.watch_log(thread_id) as watch:
            while True:
                following = following or await self._next(principal, thread_id, run, begin.since)
                if following:
                    run, following = following, None
                    async for batch in self._runs.follow(run.id, idle=idle):
                        yield run, batch
                    heard = time.monotonic()
                elif time.monotonic() - heard >= idle:
                    heard = time.monotonic()
                    yield None, []
                else:
                    await watch.changed(THREAD_POLL_SECONDS)

    async def last_on(self, principal: Principal, thread_id: UUID) -> Begin:
        """With the run that goes on, or else the last."""
        return Begin(await self._current(principal, thread_id))

    async def now_on(self, principal: Principal, thread_id: UUID) -> Begin:
        """With the run that goes on, or else what follows the last."""
        run = await self._current(principal, thread_id)
        return Begin(behind=run) if run and run.status == "finished" else Begin(run)

    async def _current(self, principal: Principal, thread_id: UUID) -> Run | None:
        """Waits while the database is away, as the streams do that begin so."""

        async def look() -> Run | None:
            async with connection(self._pool) as conn:
                row = await (await conn.execute(CURRENT.encode(), _of_thread(principal, thread_id))).fetchone()
            return Run(**row) if row else None

        return await until_database_answers(look, "thread")

    async def _next(self, principal: Principal, thread_id: UUID, run: Run | None, since: datetime | None) -> Run | None:
        """The thread's run after that one, or the first since then; None while there is none, or the database is away."""
        values = {
            **_of_thread(principal, thread_id), "since": since, "after": run and run.id, "at": run and run.created_at,
        }  # fmt: skip
        with suppress(DatabaseUnavailable):
            async with connection(self._pool) as conn:
                row = await (await conn.execute(NEXT.encode(), values)).fetchone()
            return Run(**row) if row else None
        return None

    async def logged(self, run: Run, event: Event) -> None:
        """Waits until the event of a run that executes here is in the log; elsewhere it came from there."""
        if (live := self._live.get(run.id)) and live.run.attempt == event.attempt:
            await self._writer.logged(live, event.seq)

    async def state_of(self, run: Run, event: Event, *, newest: bool) -> Any:
        """The graph's state that an event tells of: from memory, or (only the `newest`) from its checkpoint; else None."""
        live = self._live.get(run.id)
        if live and live.run.attempt == event.attempt and event.seq in live.states:
            return live.states[event.seq]
        if not newest or event.payload["checkpoint"] is None:
            return None
        return await self._values_at(run, event.payload["checkpoint"], event.payload["ns"])


def _of_thread(principal: Principal, thread_id: UUID) -> dict[str, object]:
    return {"tenant": principal.tenant, "user": principal.user, "names": [str(thread_id), thread_id.hex]}


def texts_in(value: object) -> Iterator[str]:
    """Every text in it, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from texts_in(item)


def last_question(state: object) -> str:
    """The text of the last message of a person in a graph's input; empty without one."""
    messages = state.get("messages") if isinstance(state, Mapping) else None
    found: list[Any] = messages if isinstance(messages, list) else []
    for message in reversed(found):
        if isinstance(message, Mapping) and (message.get("role") or message.get("type")) in {"user", "human"}:
            return text_of(message.get("content"))
    return ""


OF_THREAD = f"""
SELECT {WITHOUT_ANSWER} FROM slipway.runs r
WHERE r.session_id = %(thread)s AND NOT {UNDONE} AND (%(status)s::text IS NULL OR %(status)s = CASE
    WHEN r.status = 'queued' THEN 'pending' WHEN r.status = 'running' THEN 'running'
    WHEN r.outcome IN ('completed', 'interrupted') THEN 'success' WHEN r.outcome = 'cancelled' THEN 'interrupted'
    WHEN r.outcome = 'timeout' THEN 'timeout' ELSE 'error' END)
ORDER BY r.created_at DESC, r.id DESC LIMIT %(limit)s OFFSET %(offset)s
"""

GOING = f"""
SELECT {WITHOUT_ANSWER} FROM slipway.runs r
WHERE r.tenant = %(tenant)s AND r.user_id = %(user)s AND r.status <> 'finished'
  AND (%(thread)s::text IS NULL OR r.session_id = %(thread)s)
ORDER BY r.created_at
"""

OF_NAMED = f"""
SELECT {WITHOUT_ANSWER} FROM slipway.runs r JOIN slipway.sessions s ON s.id = r.session_id
WHERE s.tenant = %(tenant)s AND s.user_id = %(user)s AND {EXTERNAL_ID} = ANY(%(names)s)
"""

# The first of those that are going, or else the last.
CURRENT = f"""
{OF_NAMED} ORDER BY r.status = 'finished',
    extract(epoch FROM r.created_at) * CASE r.status WHEN 'finished' THEN -1 ELSE 1 END LIMIT 1
"""

NEXT = f"""
{OF_NAMED} AND CASE WHEN %(at)s::timestamptz IS NOT NULL THEN (r.created_at, r.id) > (%(at)s, %(after)s::uuid)
      ELSE r.created_at >= coalesce(%(since)s::timestamptz, '-infinity') END
ORDER BY r.created_at, r.id LIMIT 1
"""

DELETE = "DELETE FROM slipway.runs WHERE id = %s AND status = 'finished' RETURNING id"
