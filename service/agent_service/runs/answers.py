"""Where the response cache keeps its answers, and who makes one: in PostgreSQL, which has them as long as their sessions."""

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from psycopg.types.json import Jsonb

from agent_service.db.pool import Pool, connection, until_database_answers
from agent_service.runs.live_run import LiveRun
from agent_service.runs.run_rows import one

WHAT = "response cache"


@dataclass(frozen=True, slots=True)
class Found:
    """What to do, and the answer on a hit; `shown` are events beside its text: kind, node, payload."""

    state: Literal["none", "hit", "make", "wait"]
    answer: str | None = None
    shown: list[tuple[Any, str, Any]] | None = None
    route: str | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """An answer that was made, as PostgreSQL takes it."""

    answer: str
    shown: list[tuple[Any, str, Any]]
    route: str | None


class Answers(Protocol):
    """Of all processes: one makes the answer for a key, and while it does the others wait."""

    async def find(self, live: LiveRun, key: bytes, *, again: bool) -> Found:
        """What the run is to do; `again`: it has been told to wait."""

    def making(self, live: LiveRun, key: bytes) -> AbstractAsyncContextManager[None]:
        """Around the work of a run that is to make the answer."""

    async def keep(self, live: LiveRun, key: bytes, made: Made) -> None:
        """Within `making`. The answer is not kept if another run has meanwhile been told to make it."""


class PostgresAnswers:
    """`seconds`: for which an answer is given."""

    def __init__(self, pool: Pool, *, seconds: float) -> None:
        self._pool = pool
        self._seconds = seconds

    async def find(self, live: LiveRun, key: bytes, *, again: bool) -> Found:  # noqa: ARG002  # of Redis
        return await until_database_answers(lambda: self._look(live, key), WHAT)

    async def _look(self, live: LiveRun, key: bytes) -> Found:
        async with connection(self._pool) as conn:
            row = await one(conn, FIND, key, live.run.id, live.run.thread_id)
        assert row is not None  # noqa: S101  # a function without a set has one
        return Found(**row)

    def making(self, live: LiveRun, key: bytes) -> AbstractAsyncContextManager[None]:  # noqa: ARG002  # of Redis
        """Nothing to do: the run makes it for as long as it is executed (slipway.find_answer)."""
        return nullcontext()

    async def keep(self, live: LiveRun, key: bytes, made: Made) -> None:
        values = (made.answer, Jsonb(made.shown), made.route, self._seconds, key, live.run.id)
        await until_database_answers(lambda: self._keep(values), WHAT)

    async def _keep(self, values: tuple[Any, ...]) -> None:
        async with connection(self._pool) as conn:
            await conn.execute(KEEP, values)


FIND = "SELECT state, answer, shown, route FROM slipway.find_answer(%s, %s, %s)"

KEEP = """
UPDATE slipway.answers SET answer = %s, shown = %s, route = %s, expires_at = now() + %s * interval '1 second'
WHERE key = %s AND maker = %s
"""
