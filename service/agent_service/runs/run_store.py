"""Runs in Postgres: reading, starting, cancelling. What a lease is for stands in run_leases.py."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Literal
from uuid import UUID, uuid4

from psycopg import Rollback, errors
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from agent_service.caller_limits import Standing
from agent_service.db.pool import Connection, Pool, connection
from agent_service.errors import (
    NotFound,
    NotInterrupted,
    OtherGraph,
    Overloaded,
    SessionBusy,
    SessionInterrupted,
    SlipwayError,
    TooManyQueued,
)
from agent_service.principal import Principal
from agent_service.runs.cancelling import cancel_runs
from agent_service.runs.notices import WORK_CHANNEL
from agent_service.runs.on_thread import OnThread, prepare
from agent_service.runs.records import StartRow
from agent_service.runs.replaced_questions import from_question_on, where_it_began
from agent_service.runs.run_rows import EXTERNAL_ID, RUN_COLUMNS, TITLE_CHARS, WAITS, WITHOUT_ANSWER, Asked, as_run, one
from agent_service.runs.run_types import Run
from agent_service.runs.turns import Turns
from agent_service.runs.writer import Begun, Writer

START_TRIES = 3
"""Two callers who begin a session of one id at once: the second one's next try finds the id taken, and takes another."""

OnBusy = Literal["reject", "enqueue", "interrupt"]


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How many runs may wait: for a place, all together; for whatever they wait for, of one session and one principal."""

    max_queued: int
    of_session: int
    of_principal: int


class RunStore:
    """Runs on their way in. `holder` is this process; `lease_seconds` for how long a run that begins is its own."""

    def __init__(
        self, pool: Pool, writer: Writer, *, holder: str, lease_seconds: float, limits: QueueLimits, on_busy: OnBusy
    ) -> None:
        self._pool = pool
        self._writer = writer
        self._holder = holder
        self._lease_seconds = lease_seconds
        self._limits = limits
        self._on_busy = on_busy
        self._turns = Turns()

    async def get(self, run_id: UUID, principal: Principal, columns: str = RUN_COLUMNS, *, latest: bool = False) -> Run:
        """The run, if it is the principal's. Raises NotFound otherwise. `latest`: the last one that goes on from it."""
        async with connection(self._pool) as conn:
            run = as_run(await one(conn, f"SELECT {columns} FROM slipway.runs r WHERE id = {LATEST if latest else '%s'}", run_id))
        if run is None or not run.belongs_to(principal):
            raise NotFound("no such run")
        return run

    async def first(self, principal: Principal, key: str | None, run_id: UUID | None = None) -> Run | None:
        """The principal's run that this idempotency key, or the holder of this id, has started."""
        if key is None and run_id is None:
            return None
        async with connection(self._pool) as conn:
            return as_run(await one(conn, STARTED, principal.tenant, principal.user, key, run_id))

    async def graph_of(self, principal: Principal, session_id: str) -> str | None:
        """Name of the graph that the principal's session belongs to; None for one that has had no run."""
        async with connection(self._pool) as conn:
            row = await one(conn, GRAPH_OF, principal.tenant, principal.user, session_id)
        return row["graph"] if row else None

    async def spent_on(self, run_id: UUID) -> bool:
        """Whether the ledger knows the run: it does after the run was erased, too."""
        async with connection(self._pool) as conn:
            return await one(conn, "SELECT 1 FROM slipway.ledger WHERE run_id = %s LIMIT 1", run_id) is not None

    async def begin(
        self, asked: Asked, session_id: str, *, here: bool, listed: bool, how: OnThread | None = None
    ) -> tuple[Run, bool] | None:
        """Starts a run here, or queues it, in a session that is new (then also True) or idle; in one transaction with
        other runs' news.

        Returns None where there is more to it: `start` then says what.

        Raises:
            RateLimited, TooManyRuns: the caller has had as many as one may.
        """
        principal = asked.principal
        start: StartRow = {
            "id": str(asked.id),
            "session_id": session_id,
            "tenant": principal.tenant,
            "user_id": principal.user,
            "question": asked.question,
            "title": asked.question[:TITLE_CHARS],
            "input": asked.input,
            "listed": listed,
            "traceparent": asked.traceparent,
            "graph": asked.graph,
            "fresh": uuid4().hex,
            "here": here,
            "metadata": how.metadata if how else None,
            "ephemeral": bool(how and how.ephemeral),
            "max_queued": self._limits.max_queued,
            "of_principal": self._limits.of_principal,
            "per_minute": asked.limits.per_minute,
            "at_a_time": asked.limits.at_a_time,
        }
        begun = await self._writer.begin(start)
        if begun is None:
            return None
        if standing := begun.standing if isinstance(begun, Begun) else begun:
            Standing.of(standing, asked.limits).tell()
        assert isinstance(begun, Begun)  # noqa: S101  # or its standing has refused it
        run = Run(
            id=asked.id,
            thread_id=begun.thread_id,
            session_id=session_id,
            tenant=principal.tenant,
            user_id=principal.user,
            question=asked.question,
            input=asked.input,
            status="running" if here else "queued",
            attempt=int(here),
            crashes=0,
            cancel_requested=False,
            events_pruned=False,
            created_at=begun.created_at,
            started_at=begun.created_at if here else None,
            traceparent=asked.traceparent,
            graph=asked.graph,
        )
        return run, begun.fresh

    async def start(
        self,
        asked: Asked,
        session_id: str,
        *,
        here: bool,
        listed: bool,
        follows: int | None = None,
        replaces: UUID | None = None,
        how: OnThread | None = None,
    ) -> Run | None:
        """Inserts a run, and its session if it is new: leased to this process if `here`, else queued for any.

        `how`: by the rules of LangGraph's threads instead of ours. `replaces`: a question of the session, which is undone
        with all behind it before this one begins. Returns None when another request with the same
        idempotency key or id came first.

        Raises:
            NotFound: the session has no question `replaces`.
            StateGone: the state before that question is no longer kept.
            SessionBusy: a run of the session is going, and ON_BUSY is `reject` or a question is to be replaced; or it has
                had other than `follows` runs.
            SessionInterrupted: the session's last run waits for a decision.
            OtherGraph: the session is another graph's.
            RateLimited, TooManyRuns: the caller has had as many as one may.
            Overloaded, TooManyQueued: too many runs wait, of all or of this principal.
        """
        owner = (asked.principal.tenant, asked.principal.user)
        session = {
            "name": session_id,
            "tenant": owner[0],
            "user": owner[1],
            "listed": listed,
            "title": asked.question[:TITLE_CHARS],
            "graph": asked.graph,
        }
        for _ in range(START_TRIES):
            try:
                # Counted before any session's row is locked, as slipway.begin_run does.
                async with self._admitted(asked, here=here) as conn:
                    # The upsert locks the session's row, so that two questions at once take turns from here on.
                    thread = await _session(conn, {**session, "fresh": uuid4().hex})
                    state = await one(conn, SESSION_STATE, *(thread,) * 4) or {}
                    if state["active"] and await one(conn, STARTED, *owner, asked.idempotency_key, asked.id):
                        raise Rollback
                    if how:
                        ready = await prepare(conn, asked, thread, state, how)
                        leased = here and not state["active"] and not how.delay_seconds
                        return await self._insert(conn, ready, thread, leased=leased, delay=how.delay_seconds)
                    if follows is not None and (state["active"] or state["runs"] != follows):
                        raise SessionBusy("the session has gone on meanwhile", retry_after=1)
                    if state["waiting"]:
                        run = str(state["waiting"])
                        raise SessionInterrupted("the session waits for a decision: POST /runs/{run_id}/resume", run_id=run)
                    if state["active"]:
                        await self._when_busy(conn, thread, rejects=replaces is not None)
                    row = await _behind(conn, thread, state, asked, replaces)
                    return await self._insert(conn, row, thread, leased=here and not state["active"])
            except errors.UniqueViolation as error:
                if error.diag.constraint_name != "sessions_pkey":
                    await self._raise_unless_joined(error, asked)
                    return None
            else:
                return None  # joined, and nothing counted
        raise SessionBusy("another request begins sessions of this id; try again", retry_after=1)

    async def start_resume(self, asked: Asked, interrupted: Run, *, here: bool) -> Run | None:
        """Inserts the run that carries the decision; an interrupt is decided once. None as in `start`.

        Raises:
            NotFound: the session was erased meanwhile.
            NotInterrupted, SessionBusy, Overloaded, RateLimited, TooManyRuns
        """
        if interrupted.outcome not in {"interrupted", "budget"}:
            raise NotInterrupted(f"the run does not wait for a decision: its outcome is {interrupted.outcome or 'not known yet'}")
        try:
            async with self._admitted(asked, here=here) as conn:
                await _stay(conn, interrupted)
                return await self._insert(conn, asked, interrupted.thread_id, leased=here)
        except errors.ForeignKeyViolation:
            raise NotFound("no such run") from None
        except errors.UniqueViolation as error:
            await self._raise_unless_joined(error, asked)
            return None

    @asynccontextmanager
    async def _admitted(self, asked: Asked, *, here: bool) -> AsyncIterator[Connection]:
        """A transaction in which a start is counted against its caller's limits, whose next one waits; nothing counts if it
        is rolled back. A start that is not to begin here is counted in the queue, too, in its turn.

        Raises:
            RateLimited, TooManyRuns
            Overloaded: its turn did not come.
        """
        async with nullcontext() if here else self._turns.next(), connection(self._pool) as conn, conn.transaction():
            if not here:
                await self._turns.take(conn)
            if limits := asked.limits:
                who = asked.principal
                row = await one(conn, ADMIT, who.tenant, who.user, limits.per_minute, limits.at_a_time)
                assert row is not None  # noqa: S101  # a SELECT without FROM has one row
                Standing.of(row["standing"], limits).tell()
            yield conn

    async def _raise_unless_joined(self, error: errors.UniqueViolation, asked: Asked) -> None:
        # A request that raced with its own retry may break any of the constraints first.
        if await self.first(asked.principal, asked.idempotency_key):
            return
        match error.diag.constraint_name:
            case "runs_one_running_per_session" if not await self._is_decided(asked.resumes):
                raise SessionBusy("a run of this session is going; wait for its end or cancel it", retry_after=1) from error
            case "runs_one_running_per_session" | "runs_resumes_key":
                raise NotInterrupted("the decision for this run was made already") from error

    async def _is_decided(self, run_id: UUID | None) -> bool:
        if run_id is None:
            return False
        async with connection(self._pool) as conn:
            return await one(conn, "SELECT true FROM slipway.runs WHERE resumes = %s", run_id) is not None

    async def _when_busy(self, conn: Connection, thread_id: str, *, rejects: bool) -> None:
        if rejects or self._on_busy == "reject":
            raise SessionBusy("a run of this session is going; wait for its end or cancel it", retry_after=1)
        if self._on_busy == "interrupt":
            await cancel_runs(conn, thread=thread_id)

    async def _insert(self, conn: Connection, asked: Asked, thread_id: str, *, leased: bool, delay: float = 0.0) -> Run | None:
        values = {
            "id": asked.id,
            "thread_id": thread_id,
            "tenant": asked.principal.tenant,
            "user_id": asked.principal.user,
            "question": asked.question,
            "input": Jsonb(asked.input),
            "resumes": asked.resumes,
            "idempotency_key": asked.idempotency_key,
            "request_hash": asked.request_hash,
            "traceparent": asked.traceparent,
            "graph": asked.graph,
            "leased": leased,
            "goes_past": asked.goes_past,
            "branch": Jsonb(asked.branch) if asked.branch else None,
            "files": Jsonb(asked.files) if asked.files else None,
            "delay": delay or None,
            "webhook": bool(asked.input.get("wire", {}).get("webhook")),
            "holder": self._holder,
            "lease": self._lease_seconds,
            **asdict(self._limits),
        }
        row = await (await conn.execute(INSERT_RUN.encode(), values)).fetchone()
        if row is None:
            raise self._refusal(await (await conn.execute(QUEUE.encode(), values)).fetchone() or {})
        if not leased:
            await conn.execute("SELECT pg_notify(%s, '')", (WORK_CHANNEL,))
        return as_run(row)

    def _refusal(self, queue: Mapping[str, int]) -> SlipwayError:
        """Which limit it was, as the queue is now."""
        limits = self._limits
        if queue["of_session"] >= limits.of_session:
            return SessionBusy(f"{limits.of_session} questions of this session wait; wait for an answer", retry_after=1)
        if queue["of_principal"] >= limits.of_principal:
            return TooManyQueued(f"{limits.of_principal} questions of yours wait for a place; wait for an answer", retry_after=1)
        return Overloaded("all places and the queue are taken")

    async def request_cancel(self, run_id: UUID, *, undo: bool = False) -> None:
        """Asks whichever process executes the run to stop it, or ends it in the queue; one that has ended stays as it is.

        `undo`: it is undone as it ends.
        """
        async with connection(self._pool) as conn, conn.transaction():
            await cancel_runs(conn, run=run_id, undo=undo)


async def _stay(conn: Connection, ended: Run) -> None:
    """The run's session has not gone on. While a decision is waited for it may by a run that passes the question over."""
    await conn.execute("SELECT 1 FROM slipway.sessions WHERE id = %s FOR UPDATE", (ended.thread_id,))
    if await one(conn, GONE_ON, ended.thread_id, ended.created_at, ended.outcome == "budget"):
        raise NotInterrupted("the session has gone on after this run")


async def _behind(conn: Connection, thread: str, state: DictRow, asked: Asked, replaces: UUID | None) -> Asked:
    """The question with what is to be done to the session's history before it. Raises NotFound, StateGone: see `start`."""
    if replaces:
        undone = await from_question_on(conn, thread, replaces)
        begins = await where_it_began(conn, thread, replaces)
        return replace(asked, input={**asked.input, "mend": True, "rolls_back": undone, **begins.input}, branch=begins.branch)
    return replace(asked, input={**asked.input, "mend": True}) if state["active"] or state["stopped"] else asked


async def _session(conn: Connection, asked: Mapping[str, object]) -> str:
    """The thread of the caller's session, which is made if it is new. Raises OtherGraph."""
    row = await (await conn.execute(UPSERT_SESSION.encode(), asked)).fetchone()
    assert row is not None  # noqa: S101  # inserted or updated
    if row["graph"] != asked["graph"]:
        detail = f"the session belongs to graph {row['graph']}, and {asked['graph']} cannot go on with it"
        raise OtherGraph(detail, graph=row["graph"])
    return str(row["id"])


# Each run is decided once (runs.resumes is unique): a chain, one look-up in an index for each of its runs.
LATEST = """(
WITH RECURSIVE chain AS (
    SELECT %s::uuid AS id, 0 AS place
    UNION ALL SELECT later.id, place + 1 FROM chain JOIN slipway.runs later ON later.resumes = chain.id)
SELECT id FROM chain ORDER BY place DESC LIMIT 1)"""

# The caller's id is the thread's too, if nobody has it: what a version before external ids can read stays so.
UPSERT_SESSION = """
INSERT INTO slipway.sessions AS s (id, external_id, tenant, user_id, title, listed, graph)
SELECT CASE WHEN taken THEN %(fresh)s ELSE %(name)s END, CASE WHEN taken THEN %(name)s END,
       %(tenant)s, %(user)s, %(title)s, %(listed)s, %(graph)s
FROM (SELECT EXISTS (SELECT 1 FROM slipway.sessions WHERE id = %(name)s) AS taken) AS known
ON CONFLICT (tenant, user_id, (coalesce(external_id, id))) DO UPDATE
SET last_active_at = now(), graph = coalesce(s.graph, EXCLUDED.graph)
RETURNING s.id, s.graph
"""

SESSION_STATE = f"""
SELECT EXISTS (SELECT 1 FROM slipway.runs WHERE session_id = %s AND status <> 'finished'
               AND (not_before IS NULL OR not_before <= now())) AS active,
       (SELECT count(*) FROM slipway.runs WHERE session_id = %s) AS runs,
       (SELECT r.id FROM slipway.runs r
        WHERE r.session_id = %s AND {WAITS.format(run="r")}) AS waiting,
       (SELECT r.outcome NOT IN ('completed', 'interrupted') FROM slipway.runs r
        WHERE r.session_id = %s AND r.status = 'finished' ORDER BY r.created_at DESC LIMIT 1) AS stopped
"""

# Of a session's queued runs only the first may start, a decision before all others, and none while one is running
# or (but for the decision itself) while a decision is waited for.
CLAIMABLE = f"""
r.status = 'queued' AND (r.not_before IS NULL OR r.not_before <= now())
AND NOT EXISTS (
    SELECT 1 FROM slipway.runs other
    WHERE other.session_id = r.session_id AND other.id <> r.id AND other.status <> 'finished'
      AND (other.not_before IS NULL OR other.not_before <= now())
      AND (other.status = 'running'
           OR (other.resumes IS NULL, other.created_at, other.id) < (r.resumes IS NULL, r.created_at, r.id)))
AND (r.resumes IS NOT NULL OR r.goes_past OR NOT EXISTS (
    SELECT 1 FROM slipway.runs asked
    WHERE asked.session_id = r.session_id AND {WAITS.format(run="asked")}))
"""

# What waits for a decision, or for another run of its session, waits for no place: it takes none from those who do. To look
# which these are takes 10 ms for 500 runs, so that is done only when it matters.
QUEUE = f"""
SELECT %(max_queued)s - CASE WHEN (SELECT count(*) FROM slipway.runs WHERE status = 'queued') < %(max_queued)s THEN 0
                             ELSE (SELECT count(*) FROM slipway.runs r WHERE {CLAIMABLE}) END AS places,
       (SELECT count(*) FROM slipway.runs WHERE status = 'queued' AND session_id = %(thread_id)s) AS of_session,
       (SELECT count(*) FROM slipway.runs
        WHERE status = 'queued' AND tenant = %(tenant)s AND user_id = %(user_id)s) AS of_principal
"""

INSERT_RUN = f"""
INSERT INTO slipway.runs AS r
    (id, session_id, tenant, user_id, question, input, resumes, route, idempotency_key, request_hash, traceparent,
     graph, goes_past, files, branch, not_before, webhook_due, status, attempt, holder, lease_expires_at, started_at)
SELECT %(id)s, %(thread_id)s, %(tenant)s, %(user_id)s, %(question)s, %(input)s, %(resumes)s,
       (SELECT route FROM slipway.runs WHERE id = %(resumes)s), %(idempotency_key)s, %(request_hash)s, %(traceparent)s,
       %(graph)s, %(goes_past)s, %(files)s, %(branch)s, now() + %(delay)s::float8 * interval '1 second',
       CASE WHEN %(webhook)s THEN now() END,
       CASE WHEN %(leased)s THEN 'running' ELSE 'queued' END, %(leased)s::int, %(holder)s,
       CASE WHEN %(leased)s THEN now() + %(lease)s * interval '1 second' END, CASE WHEN %(leased)s THEN now() END
WHERE %(leased)s OR (
    SELECT queue.places > 0 AND queue.of_session < %(of_session)s AND queue.of_principal < %(of_principal)s
    FROM ({QUEUE}) AS queue)
RETURNING {RUN_COLUMNS}
"""

ADMIT = "SELECT slipway.admit(%s, %s, %s, %s) AS standing"

GRAPH_OF = f"SELECT s.graph FROM slipway.sessions s WHERE s.tenant = %s AND s.user_id = %s AND {EXTERNAL_ID} = %s"

GONE_ON = "SELECT 1 FROM slipway.runs WHERE session_id = %s AND created_at > %s AND (goes_past OR %s) LIMIT 1"

STARTED = f"""
SELECT {WITHOUT_ANSWER} FROM slipway.runs r WHERE tenant = %s AND user_id = %s AND (idempotency_key = %s OR id = %s) LIMIT 1
"""
