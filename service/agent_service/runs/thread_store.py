"""Sessions as threads: what a client of LangGraph Platform does with them, beside their runs.

A thread's id is a UUID, and so are the session ids that Slipway makes; a session with a name of another form is no thread.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, cast
from uuid import UUID, uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.errors import InvalidUpdateError
from langgraph.types import StateSnapshot, StateUpdate
from psycopg import errors, sql
from psycopg.types.json import Jsonb

from agent_service.db.pool import Connection, Held, Pool, connection
from agent_service.errors import AlreadyExists, InvalidRequest, NotFound, SessionBusy, TooLarge, TooManyThreads
from agent_service.principal import Principal
from agent_service.runs.branches import fork
from agent_service.runs.checkpoints import Checkpointer
from agent_service.runs.graphs import Graphs
from agent_service.runs.recovery import Graph
from agent_service.runs.run_rows import EXTERNAL_ID, UNDONE, one
from agent_service.runs.run_store import START_TRIES
from agent_service.runs.run_types import Run
from agent_service.runs.thread_types import LATEST, At, NamedThread, Search, SortBy, Thread
from agent_service.runs.writer import Writer

MAX_METADATA_BYTES = 65_536
"""Of a thread: each of its runs has a copy, and each list shows it."""

MAX_COPY_BYTES = 100_000_000
"""Of a thread's states that are copied by one request."""

MAX_EMPTY = 200
"""Threads in a row without a run that one caller may make."""

PAGE_STATES = 10
"""Of a history that are in memory at once."""

COPY_NODE = "__copy__"
"""As which LangGraph only copies a state."""

UPDATE_SECONDS = 2.0
"""For a change of state by hand: the graph's own code (conditional edges) runs in it, and the session is locked meanwhile. Under
what the database gives a transaction that waits for its client (3 s)."""


Change = Callable[[Graph, RunnableConfig], Awaitable[RunnableConfig]]
"""Of a state, by its graph, from that place on; the new state's config."""


class ThreadStore:
    """ThreadStore by owner: another's is one that does not exist."""

    def __init__(self, pool: Pool, writer: Writer, graphs: Graphs) -> None:
        self._pool = pool
        self._writer = writer
        self._graphs = graphs

    # ThreadStore

    async def create(self, principal: Principal, thread_id: UUID, metadata: Mapping[str, Any], *, join: bool) -> Thread:
        """A new thread. With `join` one that is there is returned as it is.

        Raises:
            AlreadyExists: it is there, and not to be joined.
        """
        for _ in range(START_TRIES):
            async with connection(self._pool) as conn:
                if found := await _find(conn, principal, thread_id):
                    if join:
                        return found
                    raise AlreadyExists(f"thread_id: a thread {thread_id} exists already", field="thread_id")
                values = {
                    "name": str(thread_id),
                    "fresh": uuid4().hex,
                    "tenant": principal.tenant,
                    "user": principal.user,
                    "metadata": Jsonb(metadata),
                }
                empty = await (await conn.execute(ALL_EMPTY.encode(), {**values, "most": MAX_EMPTY})).fetchone()
                if empty and empty["full"]:
                    raise TooManyThreads(f"your last {MAX_EMPTY} threads have had no run: use one of them", retry_after=60)
                try:
                    await conn.execute(CREATE.encode(), values)
                except errors.UniqueViolation:  # another caller took the id meanwhile
                    continue
                if made := await _find(conn, principal, thread_id):
                    return made
        raise SessionBusy("another request begins threads of this id; try again", retry_after=1)

    async def get(self, principal: Principal, thread_id: UUID) -> Thread:
        """Raises NotFound."""
        async with connection(self._pool) as conn:
            return _there(await _find(conn, principal, thread_id), thread_id)

    async def named(self, principal: Principal, thread_id: UUID) -> NamedThread | None:
        """What a run on the thread needs of it, for less than `get` costs; None when there is none."""
        values = (principal.tenant, principal.user, [str(thread_id), thread_id.hex])
        async with connection(self._pool) as conn:
            row = await one(conn, NAMED, *values)
        return NamedThread(thread_id, row["name"], row["metadata"]) if row else None

    async def patch(self, principal: Principal, thread_id: UUID, metadata: Mapping[str, Any]) -> Thread:
        """Puts keys into the thread's metadata. Raises NotFound."""
        async with connection(self._pool) as conn:
            thread = _there(await _find(conn, principal, thread_id), thread_id)
            changed = await conn.execute(PATCH, {"more": Jsonb(metadata), "thread": thread.thread, "most": MAX_METADATA_BYTES})
            if not changed.rowcount:
                raise InvalidRequest(f"metadata: the thread's would have more than {MAX_METADATA_BYTES} bytes", field="metadata")
            return _there(await _find(conn, principal, thread_id), thread_id)

    async def search(self, principal: Principal, wanted: Search) -> list[Thread]:
        """One more than `limit` when there are more."""
        order = sql.SQL("{} {}, thread").format(
            sql.Identifier(ORDER[wanted.sort_by]), sql.SQL("DESC" if wanted.descending else "ASC")
        )
        page = sql.SQL("SELECT * FROM ({}) AS threads WHERE {} ORDER BY {} LIMIT %(limit)s OFFSET %(offset)s").format(
            sql.SQL(THREADS), sql.SQL(MATCHING), order
        )
        async with connection(self._pool) as conn:
            rows = await (await conn.execute(page, _search_values(principal, wanted))).fetchall()
        return [Thread.of(row) for row in rows]

    async def count(self, principal: Principal, wanted: Search) -> int:
        """How many there are of them."""
        async with connection(self._pool) as conn:
            cursor = await conn.execute(COUNT.encode(), _search_values(principal, wanted))
            row = await cursor.fetchone()
        return int(row["count"]) if row else 0

    async def copy(self, principal: Principal, thread_id: UUID) -> Thread:
        """A new thread with the state and the history of this one, without its runs. Raises NotFound, SessionBusy."""
        made = uuid4()
        async with connection(self._pool) as conn, conn.transaction():
            thread = await self._idle(conn, principal, thread_id)
            values = {
                "from": thread.thread, "to": str(made), "name": str(made), "fresh": str(made), "tenant": principal.tenant,
                "user": principal.user, "metadata": Jsonb(thread.metadata),
            }  # fmt: skip
            size = await one(conn, SIZE, thread.thread)
            if size and size["bytes"] > MAX_COPY_BYTES:
                raise TooLarge(f"thread_id: its states have more than {MAX_COPY_BYTES} bytes", field="thread_id")
            for statement in (CREATE, *COPY):
                await conn.execute(statement.encode(), values)
            return _there(await _find(conn, principal, made), made)

    # State

    def graph(self, thread: Thread) -> Graph | None:
        """The graph that the thread's state is of; None of a thread that had no run."""
        served = self._graphs.by_name.get(thread.graph) if thread.graph else None
        return served.graph if served else None

    async def state(
        self, principal: Principal, thread_id: UUID, at: At = LATEST, *, subgraphs: bool = False
    ) -> StateSnapshot | None:
        """None of a thread that has none yet.

        Raises:
            NotFound: no such thread, or no such checkpoint of it.
        """
        thread = await self.get(principal, thread_id)
        return await self.state_of(thread, at, subgraphs=subgraphs)

    async def state_of(self, thread: Thread, at: At = LATEST, *, subgraphs: bool = False) -> StateSnapshot | None:
        """The same of a thread that was looked up. Raises NotFound."""
        graph = self.graph(thread)
        if graph is None:
            return None
        try:
            found = await graph.aget_state(at.config(thread.thread), subgraphs=subgraphs)
        except ValueError as error:  # LangGraph's: no such subgraph
            raise NotFound(f"checkpoint_ns: {error}", field="checkpoint_ns") from None
        if found.created_at is None:
            if at.checkpoint_id:
                raise NotFound(f"checkpoint {at.checkpoint_id} not found", field="checkpoint_id")
            return None
        return found

    async def values_after(self, run: Run) -> Any:
        """The state that it left behind, as the graph gives it out: a run behind it may have changed the thread's since.

        None when there is none.
        """
        return await self._values(run, await self._last_of(run))

    async def _last_of(self, run: Run) -> At:
        async with connection(self._pool) as conn:
            row = await one(conn, LAST_OF_RUN, run.thread_id, str(run.id))
        return At(row["checkpoint_id"] if row else None)

    async def values_at(self, run: Run, checkpoint_id: str, place: Sequence[str]) -> Any:
        """The state of one of a run's checkpoints; None when it is not there (any more)."""
        return await self._values(run, At(checkpoint_id, "|".join(place)))

    async def _values(self, run: Run, at: At) -> Any:
        served = self._graphs.by_name.get(run.graph)
        if served is None:
            return None
        graph = served.graph
        found = await graph.aget_state(at.config(run.thread_id))
        if found.created_at is None:
            return None
        if at.ns or not isinstance(found.values, Mapping):
            return found.values
        shown = graph.output_channels
        return {name: found.values[name] for name in ([shown] if isinstance(shown, str) else shown) if name in found.values}

    async def history(
        self, principal: Principal, thread_id: UUID, *, at: At, before: str | None, metadata: Mapping[str, Any] | None, limit: int
    ) -> AsyncIterator[StateSnapshot]:
        """Its states, the newest first, as they are read. Raises NotFound before the first."""
        thread = await self.get(principal, thread_id)
        states = self._history(thread, at, before, metadata, limit)
        try:
            first = await anext(states, None)
        except ValueError as error:  # LangGraph's: no such subgraph
            raise NotFound(f"checkpoint_ns: {error}", field="checkpoint_ns") from None
        return _behind(first, states)

    async def _history(
        self, thread: Thread, at: At, before: str | None, metadata: Mapping[str, Any] | None, limit: int
    ) -> AsyncIterator[StateSnapshot]:
        if (graph := self.graph(thread)) is None:
            return
        found = dict(metadata) if metadata else None
        while limit > 0:
            earlier = At(before, at.ns).config(thread.thread) if before else None
            count = 0
            async for state in graph.aget_state_history(
                at.config(thread.thread), filter=found, before=earlier, limit=min(limit, PAGE_STATES)
            ):
                count += 1
                before = state.config["configurable"]["checkpoint_id"]
                yield state
            if count < min(limit, PAGE_STATES) or at.checkpoint_id:
                return
            limit -= count

    async def update(self, principal: Principal, thread_id: UUID, values: Any, *, as_node: str | None, at: At) -> RunnableConfig:
        """Changes the state as if a node had returned `values`; the new checkpoint's config.

        Raises:
            NotFound, SessionBusy: a run of the thread is going.
            InvalidRequest: the graph takes no such values, or the thread has had no run, so that its graph is not known.
        """
        return await self._change(
            principal,
            thread_id,
            at,
            lambda graph, config: graph.aupdate_state(config, values, as_node=as_node),
            field="values",
            copies=as_node == COPY_NODE,
        )

    async def seed(self, principal: Principal, thread_id: UUID, supersteps: Sequence[Sequence[StateUpdate]]) -> None:
        """Gives a new thread a history. Raises what `update` does."""
        await self._change(
            principal,
            thread_id,
            LATEST,
            lambda graph, config: graph.abulk_update_state(config, supersteps),
            field="supersteps",
        )

    async def _change(
        self, principal: Principal, thread_id: UUID, at: At, change: Change, *, field: str, copies: bool = False
    ) -> RunnableConfig:
        async with connection(self._pool) as conn, conn.transaction():
            thread = await self._idle(conn, principal, thread_id)
            graph = self.graph(thread)
            if graph is None:
                raise InvalidRequest("the thread has no graph yet: give it `graph_id` in its metadata, or a run", field=field)
            if at.checkpoint_id and not at.ns:
                await fork(conn, thread.thread, at.checkpoint_id, copies=copies)
            inside = graph.copy({"checkpointer": Checkpointer(cast("Pool", Held(conn)), self._writer)})
            try:
                async with asyncio.timeout(UPDATE_SECONDS):
                    made = await change(inside, at.config(thread.thread))
            except TimeoutError:
                raise InvalidRequest(f"{field}: the graph took longer than {UPDATE_SECONDS:g} s", field=field) from None
            except InvalidUpdateError as error:
                raise InvalidRequest(f"{field}: {_one_line(error)}", field=field) from None
            except errors.Error:
                raise
            except Exception as error:  # the graph's own code, with values that a client made up
                raise InvalidRequest(f"{field}: the graph raised {type(error).__name__}", field=field) from error
            await conn.execute(TOUCH, (thread.graph, thread.thread))
        return made

    async def _idle(self, conn: Connection, principal: Principal, thread_id: UUID) -> Thread:
        """The thread, on which no run begins before the transaction's end. Raises NotFound, SessionBusy."""
        thread = _there(await _find(conn, principal, thread_id), thread_id)
        try:
            await conn.execute("SELECT 1 FROM slipway.sessions WHERE id = %s FOR UPDATE NOWAIT", (thread.thread,))
        except errors.LockNotAvailable:
            raise SessionBusy("another request changes this thread; try again", retry_after=1) from None
        if await one(conn, GOING, thread.thread):
            raise SessionBusy("a run of this thread is going; wait for its end or cancel it", retry_after=1)
        return thread


async def _behind(first: StateSnapshot | None, states: AsyncIterator[StateSnapshot]) -> AsyncIterator[StateSnapshot]:
    if first:
        yield first
    async for state in states:
        yield state


def _there(thread: Thread | None, thread_id: UUID) -> Thread:
    if thread is None:
        raise NotFound(f"Thread with ID {thread_id} not found")
    return thread


async def _find(conn: Connection, principal: Principal, thread_id: UUID) -> Thread | None:
    names = [str(thread_id), thread_id.hex]
    cursor = await conn.execute(FIND.encode(), {"tenant": principal.tenant, "user": principal.user, "names": names})
    row = await cursor.fetchone()
    return Thread.of(row) if row else None


def _search_values(principal: Principal, wanted: Search) -> dict[str, object]:
    ids = None if wanted.ids is None else [name for each in wanted.ids for name in (str(each), each.hex)]
    return {
        "tenant": principal.tenant,
        "user": principal.user,
        "metadata": Jsonb(wanted.metadata),
        "ids": ids,
        "status": wanted.status,
        "limit": wanted.limit + 1,
        "offset": wanted.offset,
    }


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]


IS_UUID = "~ '^([0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$'"

# A run that was cancelled leaves work, as one that asks does.
THREADS = f"""
SELECT s.id AS thread, {EXTERNAL_ID} AS session_id, s.created_at, s.last_active_at AS updated_at, s.metadata, s.listed,
       coalesce(s.graph, s.metadata->>'graph_id') AS graph, s.tenant, s.user_id,
       CASE WHEN EXISTS (SELECT 1 FROM slipway.runs r WHERE r.session_id = s.id AND r.status <> 'finished'
                         AND (r.not_before IS NULL OR r.not_before <= now())) THEN 'busy'
            WHEN last.outcome IN ('interrupted', 'cancelled', 'budget') THEN 'interrupted'
            WHEN last.outcome IN ('failed', 'timeout', 'iteration_limit') THEN 'error'
            ELSE 'idle' END AS status,
       last.error, last.interrupts
FROM slipway.sessions s LEFT JOIN LATERAL (
    SELECT r.status, r.outcome, r.error, r.interrupts FROM slipway.runs r
    WHERE r.session_id = s.id AND NOT {UNDONE} ORDER BY r.created_at DESC, r.id DESC LIMIT 1) AS last ON true
WHERE s.tenant = %(tenant)s AND s.user_id = %(user)s AND {EXTERNAL_ID} {IS_UUID}
"""

FIND = f"{THREADS} AND {EXTERNAL_ID} = ANY(%(names)s) ORDER BY s.created_at LIMIT 1"

NAMED = f"""
SELECT {EXTERNAL_ID} AS name, s.metadata FROM slipway.sessions s
WHERE s.tenant = %s AND s.user_id = %s AND {EXTERNAL_ID} = ANY(%s) ORDER BY s.created_at LIMIT 1
"""

MATCHING = """
listed AND metadata @> %(metadata)s AND (%(ids)s::text[] IS NULL OR session_id = ANY(%(ids)s))
AND (%(status)s::text IS NULL OR status = %(status)s)
"""

ORDER: Mapping[SortBy, str] = {
    "thread_id": "session_id",
    "status": "status",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "state_updated_at": "updated_at",
}

COUNT = f"SELECT count(*) FROM ({THREADS}) AS threads WHERE {MATCHING}"

CREATE = """
INSERT INTO slipway.sessions (id, external_id, tenant, user_id, title, metadata, graph)
SELECT CASE WHEN taken THEN %(fresh)s ELSE %(name)s END, CASE WHEN taken THEN %(name)s END, %(tenant)s, %(user)s, '',
       %(metadata)s, NULL
FROM (SELECT EXISTS (SELECT 1 FROM slipway.sessions WHERE id = %(name)s) AS taken) AS known
ON CONFLICT (tenant, user_id, (coalesce(external_id, id))) DO NOTHING
"""

PATCH = """
UPDATE slipway.sessions SET metadata = metadata || %(more)s, last_active_at = now()
WHERE id = %(thread)s AND octet_length((metadata || %(more)s)::text) <= %(most)s
"""

TOUCH = "UPDATE slipway.sessions SET last_active_at = now(), graph = coalesce(graph, %s) WHERE id = %s"

GOING = """
SELECT 1 FROM slipway.runs WHERE session_id = %s AND status <> 'finished' AND (not_before IS NULL OR not_before <= now()) LIMIT 1
"""

LAST_OF_RUN = """
SELECT checkpoint_id FROM public.checkpoints
WHERE thread_id = %s AND checkpoint_ns = '' AND metadata->>'run_id' = %s ORDER BY checkpoint_id DESC LIMIT 1
"""

SIZE = "SELECT coalesce(sum(octet_length(blob)), 0)::bigint AS bytes FROM public.checkpoint_blobs WHERE thread_id = %s"

# Who makes thread after thread and runs nothing on them is stopped; looked at are as many as that takes.
ALL_EMPTY = """
SELECT count(*) >= %(most)s AND bool_and(NOT EXISTS (SELECT 1 FROM slipway.runs r WHERE r.session_id = newest.id)) AS full
FROM (SELECT id FROM slipway.sessions WHERE tenant = %(tenant)s AND user_id = %(user)s AND listed
      ORDER BY last_active_at DESC LIMIT %(most)s) AS newest
"""

COPY = (
    """
    INSERT INTO public.checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT %(to)s, checkpoint_ns, channel, version, type, blob FROM public.checkpoint_blobs WHERE thread_id = %(from)s
    """,
    """
    INSERT INTO public.checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata)
    SELECT %(to)s, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata
    FROM public.checkpoints WHERE thread_id = %(from)s
    """,
    """
    INSERT INTO public.checkpoint_writes
        (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path)
    SELECT %(to)s, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path
    FROM public.checkpoint_writes WHERE thread_id = %(from)s
    """,
    "UPDATE slipway.sessions t SET graph = s.graph FROM slipway.sessions s WHERE t.id = %(to)s AND s.id = %(from)s",
)
"""A thread's history under another name."""
