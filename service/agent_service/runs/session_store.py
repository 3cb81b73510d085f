"""Sessions as their owner sees them: list, history, erasure, feedback."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Literal, NotRequired, TypedDict
from uuid import UUID

from psycopg.errors import DeadlockDetected, ForeignKeyViolation
from psycopg.rows import DictRow

from agent_service.db.pool import Connection, Pool, connection
from agent_service.errors import InvalidRequest, NotFound, SessionBusy
from agent_service.outcomes import Outcome
from agent_service.principal import Principal
from agent_service.question_files import FileNote, content_of
from agent_service.runs.branches import LeftBehind, left_behind
from agent_service.runs.run_rows import EXTERNAL_ID, UNDONE, one
from agent_service.runs.run_types import Interrupt

VERSION_MARK = "@"
"""In the name of a holder, before the version of the graph that it runs: whose answers were rated is told by the run's row."""

KNOWS_GRAPHS = "+"
"""In the name of a holder, before that mark: it keeps each session to its graph. Migration 0014 hinders whoever does not."""

PAGE_RUNS = 500
"""Of a history, unless its reader asks for fewer: a longer session is read in pages."""

MAX_PASSAGES = 50
"""Of a run's sources; each has some 1,500 characters."""

ERASE_TRIES = 5
"""Each deadlock means that the other side went on: a second one in a row was never seen."""


class HistoryMessage(TypedDict):
    """A question, or the answer of a run that has ended.

    `feedback` is its thumb, 1 up and 0 down; `sources` what its tools cited; `decided` what a person decided for it to go on.
    """

    role: Literal["user", "assistant"]
    content: str
    run_id: UUID
    created_at: datetime | None
    outcome: NotRequired[Outcome | None]
    feedback: NotRequired[Literal[0, 1] | None]
    sources: NotRequired[list[dict[str, str]]]
    decided: NotRequired[list[object]]
    files: NotRequired[list[FileNote]]
    """Of a question."""


class Waiting(TypedDict):
    """A run that stopped for decisions."""

    run_id: UUID
    interrupts: list[Interrupt]


class History(TypedDict):
    """A session, oldest message first."""

    session_id: str
    messages: list[HistoryMessage]
    active_run_id: UUID | None
    interrupted: Waiting | None
    earlier: UUID | None
    """Run before which there are older ones; None: there are none."""


@dataclass(frozen=True, slots=True)
class SoFar:
    """A session's runs, and what they and the user said: (role, text)."""

    runs: int
    said: list[tuple[str, str]]


class SessionStore:
    """Sessions by owner: another's session is one that does not exist."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(
        self, principal: Principal, *, limit: int, graphs: Sequence[str] | None = None, text: str = ""
    ) -> list[DictRow]:
        """The principal's sessions, the most recent first: those of `graphs`; with `text` in their title or a
        question, of SEARCHED_SESSIONS and SEARCHED_QUESTIONS.
        """
        asked = {"tenant": principal.tenant, "user": principal.user, "limit": limit, "graphs": graphs, "text": text.lower()}
        async with connection(self._pool) as conn:
            return await (await conn.execute((FIND_SESSIONS if text else LIST_SESSIONS).encode(), asked)).fetchall()

    async def rename(self, principal: Principal, session_id: str, title: str) -> None:
        """Raises NotFound."""
        async with connection(self._pool) as conn:
            if not await one(conn, RENAME_SESSION, title, principal.tenant, principal.user, session_id):
                raise NotFound("no such session")

    async def history(
        self, principal: Principal, session_id: str, *, limit: int = PAGE_RUNS, before: UUID | None = None
    ) -> History:
        """Messages of the newest `limit` runs, or of those `before` one; the run that is going and the decision that is waited
        for, which only the newest page tells of. Raises NotFound.
        """
        async with connection(self._pool) as conn:
            thread = await _owned(conn, OWNED_SESSION, principal, session_id)
            if before and not await one(conn, "SELECT 1 FROM slipway.runs WHERE id = %s AND session_id = %s", before, thread):
                raise InvalidRequest("before: expected a run of this session; begin with its newest ones", field="before")
            gone = await left_behind(conn, thread)
            part = {"thread": thread, "before": before}
            shown = await _shown(conn, part, gone, limit + 1) if gone.ranges else None
            asked = {**part, "shown": shown, "limit": limit + 1}
            found = await (await conn.execute(SESSION_RUNS.encode(), asked)).fetchall()
        runs = found[:limit][::-1]
        last = runs[-1] if runs else None
        waits = last is not None and last["outcome"] == "interrupted"
        return {
            "session_id": session_id,
            "messages": [message for run in runs for message in _messages(run, answered=run["id"] not in gone.answers)],
            "active_run_id": found[0]["active"] if found and not before else None,
            "interrupted": {"run_id": last["id"], "interrupts": last["interrupts"]} if last and waits and not before else None,
            "earlier": runs[0]["id"] if len(found) > limit else None,
        }

    async def passages(self, principal: Principal, run_id: UUID) -> Sequence[DictRow]:
        """What a run's sources say, as it stands in the documents now: title, section, source, text. Raises NotFound."""
        async with connection(self._pool) as conn:
            if not await one(conn, OWNED_RUN, run_id, principal.tenant, principal.user):
                raise NotFound("no such run")
            return await (await conn.execute(PASSAGES.encode(), (run_id, MAX_PASSAGES))).fetchall()

    async def file(self, principal: Principal, run_id: UUID, number: int) -> tuple[FileNote, bytes]:
        """A file of the question of a run, counted from 0. Raises NotFound."""
        async with connection(self._pool) as conn:
            row = await one(conn, FILE, number, number + 1, run_id, principal.tenant, principal.user)
        if row is None or row["note"] is None or row["block"] is None:
            raise NotFound("no such file")
        return row["note"], content_of(row["block"])

    async def said(self, principal: Principal, session_id: str) -> SoFar:
        """What was said in the session until now; nothing in one that is new."""
        async with connection(self._pool) as conn:
            rows = await (await conn.execute(SAID.encode(), (principal.tenant, principal.user, session_id))).fetchall()
        said: list[tuple[str, str]] = []
        for row in rows:
            said += [] if row["resumes"] else [("user", row["question"].strip())]
            said += [("assistant", row["answer"].strip())] if row["answer"].strip() else []
        return SoFar(len(rows), said)

    async def erase(self, principal: Principal, session_id: str) -> None:
        """Deletes the session with its runs, events and checkpoints. The ledger of costs stays; it holds no text.

        Raises:
            NotFound, SessionBusy
        """
        async with connection(self._pool) as conn:
            # Retention takes the same checkpoints in another order: PostgreSQL then ends one of the two.
            for _ in range(ERASE_TRIES - 1):
                with suppress(DeadlockDetected):
                    return await _erase(conn, principal, session_id)
            return await _erase(conn, principal, session_id)

    async def rate(self, principal: Principal, run_id: UUID, score: int, comment: str | None) -> str | None:
        """Keeps a thumb for a run; a later one replaces it.

        Returns the version of the graph that answered, or None when the same thumb was given before.

        Raises:
            NotFound
        """
        try:
            async with connection(self._pool) as conn:
                row = await one(conn, UPSERT_FEEDBACK, run_id, principal.tenant, principal.user, run_id, score, comment)
        except ForeignKeyViolation:  # erased between the statement's look and its write
            raise NotFound("no such run") from None
        if row is None:
            raise NotFound("no such run")
        return None if row["before"] == score else str(row["holder"] or "").rpartition(VERSION_MARK)[2]


async def _owned(conn: Connection, query: str, principal: Principal, session_id: str) -> str:
    """The thread of the principal's session. Raises NotFound."""
    row = await one(conn, query, principal.tenant, principal.user, session_id)
    if row is None:
        raise NotFound("no such session")
    return str(row["id"])


async def _erase(conn: Connection, principal: Principal, session_id: str) -> None:
    async with conn.transaction():
        thread = await _owned(conn, f"{OWNED_SESSION} FOR UPDATE", principal, session_id)
        going = await conn.execute("SELECT 1 FROM slipway.runs WHERE session_id = %s AND status <> 'finished'", (thread,))
        if await going.fetchone():
            raise SessionBusy("a run of this session is going; cancel it first", retry_after=1)
        for statement in ERASE_SESSIONS:
            await conn.execute(statement.encode(), ([thread],))


async def _shown(conn: Connection, part: Mapping[str, object], gone: LeftBehind, limit: int) -> list[UUID]:
    """The newest runs of a part of the session that no branch has left behind. Looked up here: the database would compare each
    with each range."""
    rows = await (await conn.execute(PLACES.encode(), part)).fetchall()
    return list(islice((row["id"] for row in rows if not gone.has((row["created_at"], row["id"]))), limit))


def _messages(run: DictRow, *, answered: bool) -> Iterator[HistoryMessage]:
    if not run["resumes"]:
        asked: HistoryMessage = {
            "role": "user", "content": run["question"], "run_id": run["id"], "created_at": run["created_at"],
        }  # fmt: skip
        yield {**asked, "files": run["files"]} if run["files"] else asked
    if run["status"] == "finished" and answered:
        yield {
            "role": "assistant",
            "content": run["answer"],
            "run_id": run["id"],
            "created_at": run["finished_at"],
            "outcome": run["outcome"],
            "feedback": run["score"],
            "sources": run["sources"] or [],
            "decided": list((run["decided"] or {}).values()),
        }


OWNED_SESSION = f"SELECT id FROM slipway.sessions s WHERE tenant = %s AND user_id = %s AND {EXTERNAL_ID} = %s"

SEARCHED_SESSIONS = 500
"""Sessions that a search looks through, the most recent ones: what it costs does not grow with all that its caller ever asked."""

SEARCHED_QUESTIONS = 100
"""Of each of them, the newest."""

LIST_SESSIONS = f"""
SELECT {EXTERNAL_ID} AS session_id, graph, title, created_at, last_active_at FROM slipway.sessions s
WHERE tenant = %(tenant)s AND user_id = %(user)s AND listed
  AND (%(graphs)s::text[] IS NULL OR graph IS NULL OR graph = ANY(%(graphs)s::text[]))
ORDER BY last_active_at DESC, id
LIMIT %(limit)s
"""

# No index helps to find a text anywhere in another without an extension (pg_trgm), which not every database has.
FIND_SESSIONS = f"""
SELECT {EXTERNAL_ID} AS session_id, graph, title, created_at, last_active_at FROM (
    SELECT * FROM slipway.sessions s
    WHERE tenant = %(tenant)s AND user_id = %(user)s AND listed
      AND (%(graphs)s::text[] IS NULL OR graph IS NULL OR graph = ANY(%(graphs)s::text[]))
    ORDER BY last_active_at DESC LIMIT {SEARCHED_SESSIONS}) AS s
WHERE strpos(lower(title), %(text)s) > 0 OR EXISTS (
    SELECT 1 FROM (
        SELECT question FROM slipway.runs r WHERE r.session_id = s.id
        ORDER BY r.created_at DESC LIMIT {SEARCHED_QUESTIONS}) AS asked
    WHERE strpos(lower(question), %(text)s) > 0)
ORDER BY last_active_at DESC, id
LIMIT %(limit)s
"""

RENAME_SESSION = (
    f"UPDATE slipway.sessions s SET title = %s WHERE tenant = %s AND user_id = %s AND {EXTERNAL_ID} = %s RETURNING id"
)

CITED = "CASE WHEN r.events_pruned OR r.status <> 'finished' OR r.sources IS NOT NULL THEN r.sources ELSE slipway.cited(r.id) END"
"""Kept at a run's end; one that ended before migration 0024 has only its events to tell, for EVENT_RETENTION_HOURS."""

OWNED_RUN = "SELECT 1 FROM slipway.runs WHERE id = %s AND tenant = %s AND user_id = %s"

# The text of the question is its first block.
FILE = """
SELECT files->%s AS note, input->'messages'->-1->'content'->%s AS block FROM slipway.runs
WHERE id = %s AND tenant = %s AND user_id = %s
"""

OF_EACH_SECTION = 5
"""Passages that come first: a CSV is one section, and would leave the other sources nothing."""

PASSAGES = f"""
SELECT title, section, source, text FROM (
    SELECT p.title, p.section, d.source, p.text, p.position,
           row_number() OVER (PARTITION BY d.id, p.section ORDER BY p.position) AS nth
    FROM (SELECT DISTINCT s->>'source' AS source, s->>'title' AS title, coalesce(s->>'section', '') AS section
          FROM slipway.runs r, json_array_elements({CITED}) AS s WHERE r.id = %s) AS cited
    JOIN slipway.documents d ON d.source = cited.source
    JOIN slipway.passages p ON p.document_id = d.id AND p.title = cited.title AND p.section = cited.section
) AS found ORDER BY nth > {OF_EACH_SECTION}, source, position LIMIT %s
"""

# In the statement that reads the runs: of one that ended between two, neither would tell.
ACTIVE_RUN = """
SELECT a.id FROM slipway.runs a WHERE a.session_id = %(thread)s AND a.status <> 'finished' ORDER BY a.created_at, a.id LIMIT 1
"""

OF_HISTORY = f"""
r.session_id = %(thread)s AND NOT {UNDONE} AND (%(before)s::uuid IS NULL OR (r.created_at, r.id) < (
    SELECT b.created_at, b.id FROM slipway.runs b WHERE b.id = %(before)s AND b.session_id = %(thread)s))
"""

SESSION_RUNS = f"""
SELECT ({ACTIVE_RUN}) AS active, r.id, r.resumes, r.question, r.files, r.answer, r.status, r.outcome, r.interrupts,
       r.created_at, r.finished_at, f.score,
       {CITED} AS sources,
       CASE WHEN r.resumes IS NOT NULL THEN r.input->'resume' END AS decided
FROM slipway.runs r LEFT JOIN slipway.feedback f ON f.run_id = r.id
WHERE {OF_HISTORY} AND (%(shown)s::uuid[] IS NULL OR r.id = ANY(%(shown)s))
ORDER BY r.created_at DESC, r.id DESC LIMIT %(limit)s
"""

PLACES = f"SELECT r.created_at, r.id FROM slipway.runs r WHERE {OF_HISTORY} ORDER BY r.created_at DESC, r.id DESC"

SAID = f"""
SELECT r.question, r.answer, r.resumes FROM slipway.sessions s JOIN slipway.runs r ON r.session_id = s.id
WHERE s.tenant = %s AND s.user_id = %s AND {EXTERNAL_ID} = %s
ORDER BY r.created_at, r.id
"""

ERASE_SESSIONS = (
    "DELETE FROM public.checkpoint_writes WHERE thread_id = ANY(%s)",
    "DELETE FROM public.checkpoint_blobs WHERE thread_id = ANY(%s)",
    "DELETE FROM public.checkpoints WHERE thread_id = ANY(%s)",
    """
    DELETE FROM slipway.crons c USING slipway.sessions s WHERE s.id = ANY(%s) AND c.tenant = s.tenant AND c.user_id = s.user_id
        AND replace(c.thread_id::text, '-', '') = replace(coalesce(s.external_id, s.id), '-', '')
    """,
    "DELETE FROM slipway.sessions WHERE id = ANY(%s)",
)
"""Of those threads."""

UPSERT_FEEDBACK = """
WITH rated AS (SELECT id, holder FROM slipway.runs WHERE id = %s AND tenant = %s AND user_id = %s),
     before AS (SELECT score FROM slipway.feedback WHERE run_id = %s)
INSERT INTO slipway.feedback AS f (run_id, score, comment)
SELECT id, %s, %s FROM rated
ON CONFLICT (run_id) DO UPDATE SET score = EXCLUDED.score, comment = EXCLUDED.comment, created_at = now()
RETURNING (SELECT score FROM before) AS before, (SELECT holder FROM rated) AS holder
"""
