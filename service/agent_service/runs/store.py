"""Runs in Postgres. Each transition is one statement with its guard in the WHERE clause."""

from typing import Any, get_type_hints
from uuid import UUID

from psycopg import errors
from psycopg.types.json import Jsonb

from agent_service.db.pool import Connection, Pool, connection
from agent_service.errors import NotFound, NotInterrupted, SessionBusy, SessionInterrupted
from agent_service.principal import Principal
from agent_service.runs.model import Run

RUN_COLUMNS = ", ".join(get_type_hints(Run))

TITLE_CHARS = 80
"""Characters of the first question that name a session in a list."""


def _run(row: dict[str, Any] | None) -> Run | None:
    return Run(**row) if row else None


class RunStore:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, run_id: UUID, principal: Principal) -> Run:
        """The run, if it is the principal's. Raises NotFound otherwise."""
        async with connection(self._pool) as conn:
            run = _run(await _one(conn, f"SELECT {RUN_COLUMNS} FROM slipway.runs WHERE id = %s", run_id))
        if run is None or not run.belongs_to(principal):
            raise NotFound("no such run")
        return run

    async def by_idempotency_key(self, principal: Principal, key: str) -> Run | None:
        async with connection(self._pool) as conn:
            return _run(
                await _one(
                    conn,
                    f"SELECT {RUN_COLUMNS} FROM slipway.runs WHERE tenant = %s AND user_id = %s AND idempotency_key = %s",
                    principal.tenant,
                    principal.user,
                    key,
                )
            )

    async def start(
        self,
        run_id: UUID,
        session_id: str,
        principal: Principal,
        question: str,
        run_input: dict[str, Any],
        *,
        listed: bool,
        idempotency_key: str | None,
    ) -> Run | None:
        """Inserts a queued run, and its session if it is new.

        Returns None when another request with the same idempotency key came first.

        Raises:
            NotFound: the session is another principal's.
            SessionBusy: a run of the session is going.
            SessionInterrupted: the session's last run waits for a decision.
        """
        try:
            async with connection(self._pool) as conn, conn.transaction():
                session = await _one(
                    conn, UPSERT_SESSION, session_id, principal.tenant, principal.user, question[:TITLE_CHARS], listed
                )
                if session is None:
                    raise NotFound("no such session")
                if waiting := await _one(conn, WAITING_RUN, session_id):
                    raise SessionInterrupted(
                        "the session waits for a decision: POST /runs/{run_id}/resume", run_id=str(waiting["id"])
                    )
                args = (run_id, session_id, principal.tenant, principal.user, question, Jsonb(run_input), None, idempotency_key)
                return _run(await _one(conn, INSERT_RUN, *args))
        except errors.UniqueViolation as error:
            _raise_unless_idempotent(error)
            return None

    async def start_resume(
        self, run_id: UUID, interrupted: Run, run_input: dict[str, Any], *, idempotency_key: str | None
    ) -> Run | None:
        """Inserts the run that carries the decision; an interrupt is decided once. None as in `start`."""
        if interrupted.outcome != "interrupted":
            raise NotInterrupted(f"the run does not wait for a decision: its outcome is {interrupted.outcome or 'not known yet'}")
        args = (
            run_id,
            interrupted.session_id,
            interrupted.tenant,
            interrupted.user_id,
            interrupted.question,
            Jsonb(run_input),
            interrupted.id,
            idempotency_key,
        )
        try:
            async with connection(self._pool) as conn:
                return _run(await _one(conn, INSERT_RUN, *args))
        except errors.UniqueViolation as error:
            _raise_unless_idempotent(error)
            return None

    async def claim(self, run_id: UUID, holder: str) -> Run:
        """Takes a queued run for this process under a new attempt. Raises NotFound if it is no longer queued."""
        async with connection(self._pool) as conn:
            run = _run(await _one(conn, CLAIM_RUN, holder, run_id))
        if run is None:
            raise NotFound("the run is no longer queued")
        return run

    async def fail_orphans(self) -> int:
        """Ends runs that a process left behind when it died. Returns how many.

        Only for a single process: with several, a run of a living peer looks the same. Leases tell them apart
        (the durable-run change).
        """
        async with connection(self._pool) as conn:
            return (await conn.execute(FAIL_ORPHANS)).rowcount


async def _one(conn: Connection, query: str, *args: Any) -> dict[str, Any] | None:
    return await (await conn.execute(query.encode(), args)).fetchone()


def _raise_unless_idempotent(error: errors.UniqueViolation) -> None:
    constraint = error.diag.constraint_name
    if constraint == "runs_one_active_per_session":
        raise SessionBusy("a run of this session is going; wait for its end or cancel it", retry_after=1) from error
    if constraint == "runs_resumes_key":
        raise NotInterrupted("the decision for this run was made already") from error


UPSERT_SESSION = """
INSERT INTO slipway.sessions AS s (id, tenant, user_id, title, listed) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET last_active_at = now()
WHERE s.tenant = EXCLUDED.tenant AND s.user_id = EXCLUDED.user_id
RETURNING id
"""

WAITING_RUN = """
SELECT id FROM slipway.runs r
WHERE session_id = %s AND outcome = 'interrupted'
  AND NOT EXISTS (SELECT 1 FROM slipway.runs later WHERE later.resumes = r.id)
"""

INSERT_RUN = f"""
INSERT INTO slipway.runs (id, session_id, tenant, user_id, question, input, resumes, idempotency_key)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
RETURNING {RUN_COLUMNS}
"""

CLAIM_RUN = f"""
UPDATE slipway.runs SET status = 'running', attempt = attempt + 1, holder = %s, started_at = coalesce(started_at, now())
WHERE id = %s AND status = 'queued'
RETURNING {RUN_COLUMNS}
"""

FAIL_ORPHANS = """
UPDATE slipway.runs
SET status = 'finished', outcome = 'failed', finished_at = now(),
    error = '{"code": "process_lost", "message": "the process that ran this died", "retryable": true}'
WHERE status <> 'finished'
"""
